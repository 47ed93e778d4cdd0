"""Building blocks of admin pages that keep themselves up to date: lists, badges, times.

A live list polls its own address with htmx. The answer is the same list without the page around it;
the extension `rows` in `console.js` merges it into the table, so that checked boxes, filters, focus
and scroll position stay as they are.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils import formats, timezone
from django.utils.cache import patch_vary_headers
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django_htmx.http import trigger_client_event
from unfold.admin import ModelAdmin

from lifecycle.console.ids import row_id
from lifecycle.console.paging import BoundedChanges, BoundedPaginator

Text = str | Promise
M = TypeVar("M", bound=Model)

if TYPE_CHECKING:
    AdminBase = admin.ModelAdmin[Any]
else:
    AdminBase = object

LIVE_ROWS = "live-rows"  # the id of the element that polls, in console/live_list.html
DASH = "–"


def polls(request: HttpRequest, target: str) -> bool:
    """Whether this is the poll of the element with the id `target`, and not a visit."""
    return request.headers.get("HX-Target") == target


class LiveList(AdminBase):
    """A change list that is merged anew every two seconds."""

    change_list_template = "console/live_list.html"
    paginator = BoundedPaginator
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BoundedChanges

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if polls(request, LIVE_ROWS) and isinstance(response, TemplateResponse):
            response.template_name = "console/live_rows.html"
        patch_vary_headers(response, ["HX-Target"])
        return response

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *more: Any
    ) -> HttpResponse | None:
        """Ticked rows are meant by their ids: one that has left the list's filter since then is
        acted on all the same, or says why not. "All" are those of the filter."""
        if request.POST.get("select_across", "0") == "0":
            queryset = self.get_queryset(request)
        return super().response_action(request, queryset, *more)


def visible(
    page: Any, request: HttpRequest, rows: QuerySet[M], pk: object, operate: bool = False
) -> M:
    """The row that an address names, if the user may see it (or operate on it).

    Raises `PermissionDenied`, `Http404`.
    """
    if not page.has_view_permission(request):
        raise PermissionDenied
    if operate and not page.has_operate_permission(request):
        raise PermissionDenied
    if (found := row_id(pk)) is None:
        raise Http404
    return get_object_or_404(rows, pk=found)


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]  # unfold is untyped
    """Rows that people read and nobody edits here."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


def answer(request: HttpRequest, level: int, text: str, back_to: str) -> HttpResponse:
    """The end of a button's POST: a toast and a poll at once, or without htmx message and redirect.

    `level` is one of `django.contrib.messages.constants`.
    """
    if not request.headers.get("HX-Request"):
        messages.add_message(request, level, text)
        return HttpResponseRedirect(back_to)
    response = HttpResponse(status=204)
    trigger_client_event(response, "toast", {"level": messages.DEFAULT_TAGS[level], "text": text})
    trigger_client_event(response, "refresh", {})
    return response


def badge(text: Text, tone: str, title: Text = "") -> SafeString:
    """A coloured word. `tone`: green, blue, amber, red or grey; with " live" its dot pulses."""
    return format_html('<span class="m-badge m-{}" title="{}">{}</span>', tone, title, text)


def two_lines(first: object, second: object) -> SafeString:
    """A cell with a main line and a quiet one below it."""
    return format_html(
        '<span class="m-two"><b>{}</b><small>{}</small></span>', str(first), str(second)
    )


def moment(time: datetime | None) -> SafeString | str:
    """A point in time, shown by the browser in the reader's own time zone."""
    if time is None:
        return DASH
    shown = formats.date_format(timezone.localtime(time), "DATETIME_FORMAT")
    return format_html('<time datetime="{}">{}</time>', time.isoformat(), shown)


def age(time: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that fits: `12 s`, `5 min`."""
    return DASH if time is None else span((now - time).total_seconds())


def span(seconds: float) -> str:
    """A length of time for a narrow column: `12 s`, `5 min`, `3 h`, `2 d`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return _("%(n)d s") % {"n": whole}
    if whole < 3600:
        return _("%(n)d min") % {"n": whole // 60}
    if whole < 86_400:
        return _("%(h)d h %(m)d min") % {"h": whole // 3600, "m": whole % 3600 // 60}
    return _("%(d)d d %(h)d h") % {"d": whole // 86_400, "h": whole % 86_400 // 3600}
