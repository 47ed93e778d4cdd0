"""The inbox: conversations with their unread counts, live by the feed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.decorators import action

from lifecycle.console.live import DASH, LiveList, ReadOnlyAdmin, moment, polls, two_lines
from sync import platforms, queries, store
from sync.admin.by_account import BY_ACCOUNT
from sync.admin.conversation_page import ConversationPage, marked_text
from sync.admin.live import feed_position, stream
from sync.admin.looks import face, platform_label
from sync.models import Conversation


class UnreadFilter(admin.SimpleListFilter):
    title = _("unread")
    parameter_name = "unread"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Unread")), ("no", _("Read"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Conversation]
    ) -> QuerySet[Conversation]:
        if self.value() == "yes":
            return queryset.filter(unread_count__gt=0)
        return queryset.filter(unread_count=0) if self.value() == "no" else queryset


class PlatformFilter(admin.SimpleListFilter):
    title = _("platform")
    parameter_name = "platform"
    field = "account__platform"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, platform.label) for name, platform in platforms.registry().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.field: self.value()}) if self.value() else queryset


@admin.register(Conversation)
class ConversationAdmin(ConversationPage, LiveList, ReadOnlyAdmin):
    """Newest first. Opening one does not mark it read: somebody else may have to answer."""

    change_list_template = "console/inbox.html"
    list_before_template = "console/unread_bar.html"

    list_display = ["who", "said", "when", "unread", "account_name"]
    list_filter = [UnreadFilter, PlatformFilter, BY_ACCOUNT]
    search_fields = ["title", "external_id", "last_message_text", "last_sender_name"]
    list_per_page = 50
    sortable_by = ("when", "unread", "account_name")
    actions = ["mark_read"]
    actions_list = ["mark_all"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        return queries.conversations()

    def has_operate_permission(self, request: HttpRequest, _object_id: object = None) -> bool:
        return request.user.has_perm("sync.operate_account")

    # --- columns ---

    @admin.display(description=_("conversation"))
    def who(self, row: Conversation) -> SafeString:
        return format_html(
            '<span class="m-who {}" data-conversation="{}">{}'
            '<span class="m-two"><b>{}</b><small>{}</small></span></span>',
            "m-unread" if row.unread_count else "m-read",
            row.pk,
            face(str(row)),
            str(row),
            ngettext("%(n)d message", "%(n)d messages", row.messages_total)
            % {"n": row.messages_total},
        )

    @admin.display(description=_("last message"))
    def said(self, row: Conversation) -> SafeString | str:
        if not row.last_message_at:
            return DASH
        return format_html(
            '<span class="m-said {}"><bdi class="m-muted">{}</bdi> <bdi>{}</bdi></span>',
            "m-unread" if row.unread_count else "m-read",
            f"{row.last_sender_name}:" if row.last_sender_name else "",
            row.last_message_text,
        )

    @admin.display(description=_("time"), ordering="last_message_at")
    def when(self, row: Conversation) -> SafeString | str:
        return moment(row.last_message_at)

    @admin.display(description=_("unread"), ordering="unread_count")
    def unread(self, row: Conversation) -> SafeString | str:
        if not row.unread_count:
            return ""
        return format_html('<span class="m-count">{}</span>', row.unread_count)

    @admin.display(description=_("account"), ordering="account__name")
    def account_name(self, row: Conversation) -> SafeString:
        return two_lines(row.account, platform_label(row.account.platform))

    # --- actions ---

    @admin.action(description=_("Mark read"), permissions=["operate"])
    def mark_read(self, request: HttpRequest, rows: QuerySet[Conversation]) -> None:
        unread = rows.filter(unread_count__gt=0).order_by("pk").values_list("pk", flat=True)
        self._say(request, sum(store.mark_read(pk) for pk in list(unread)))

    @action(  # type: ignore[untyped-decorator]
        description=_("Mark all read"),
        permissions=["operate"],
        icon="mark_chat_read",
        dialog={
            "title": _("Mark all conversations read?"),
            "description": _("Every unread message of every account becomes read."),
            "form_class": None,
            "form_submit_text": _("Mark all read"),
        },
    )
    def mark_all(self, request: HttpRequest, form: object) -> HttpResponse:
        self._say(request, store.mark_all_read())
        response = HttpResponse()
        response["HX-Redirect"] = reverse("admin:sync_conversation_changelist")
        return response

    def _say(self, request: HttpRequest, marked: int) -> None:
        messages.success(request, marked_text(marked))

    # --- live ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("events/", view(self.events_view), name="sync_conversation_events"),
            path("unread/", view(self.unread_view), name="sync_conversation_unread"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        feed_position(request)
        bar = {} if polls(request, "live-rows") else {"bar": queries.unread_bar()}
        response = super().changelist_view(request, bar | (extra_context or {}))
        if isinstance(response, TemplateResponse) and response.context_data:
            response.context_data["is_plain"] = is_plain(request)
        return response

    def events_view(self, request: HttpRequest) -> HttpResponseBase:
        """What comes, for the admin's open pages; see `sync.admin.live`."""
        return stream(request, self)

    def unread_view(self, request: HttpRequest) -> HttpResponse:
        """The figures above the list, when there are other platforms or accounts than before."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return TemplateResponse(request, "console/unread_bar.html", {"bar": queries.unread_bar()})


def is_plain(request: HttpRequest) -> bool:
    """The first page of everything, newest first: the page itself knows where a row belongs."""
    return not any(text for name, text in request.GET.items() if name != "_changelist_filters")
