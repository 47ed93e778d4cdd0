"""Replies in the admin: the box below a conversation or post, what waits there, and the list."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from django_htmx.http import trigger_client_event

from lifecycle.console.live import DASH, LiveList, ReadOnlyAdmin, age, answer, badge, moment
from lifecycle.said import said
from sync import queries, services
from sync.admin.by_account import BY_ACCOUNT
from sync.admin.inbox import PlatformFilter
from sync.admin.records import SaidFields, clipped
from sync.admin.reply_box import TARGETS, Target, page_of, reply_box, thread_of
from sync.errors import SyncError
from sync.models import Reply
from sync.trail import act_on_reply
from sync.types import ReplyState

SHOWN = 20  # replies beside a thread
JUST_NOW = timedelta(minutes=1)
TONES = {
    ReplyState.PENDING: "blue live",
    ReplyState.SENT: "green",
    ReplyState.FAILED: "red",
    ReplyState.CANCELLED: "grey",
}


def reply_badge(reply: Reply) -> SafeString:
    """One word for where a reply stands."""
    if services.is_being_sent(reply, timezone.now()):
        return badge(_("sending"), "blue live")
    if reply.may_have_been_sent:
        why = _("The platform is asked.") if reply.is_asked_for else _("The platform can't tell.")
        return badge(_("cancelled, may have been sent"), "amber", str(why))
    if reply.needs_decision:
        why = _("The platform can't tell whether it has it: look there.")
        return badge(_("failed, may have been sent"), "red", str(why))
    return badge(reply.get_state_display(), TONES[ReplyState(reply.state)])


def _anyway(reply: Reply) -> SafeString:
    """To the page that asks whether this is meant."""
    return format_html(
        '<a id="anyway-{pk}" href="{url}" title="{word}" aria-label="{word}">'
        '<span class="material-symbols-outlined" aria-hidden="true">forward_to_inbox</span></a>',
        pk=reply.pk,
        url=reverse("admin:sync_reply_anyway", args=[reply.pk]),
        word=gettext("Send again anyway"),
    )


def _back_to(reply: Reply) -> str:
    target = reply.conversation or reply.post
    return page_of(target) if target else reverse("admin:sync_reply_changelist")


def _taken_back(reply: Reply) -> str:
    if reply.may_have_been_sent:
        return gettext("It is not sent any more, but it may have been sent before.")
    return gettext("Taken back.")


@admin.register(Reply)
class ReplyAdmin(SaidFields, LiveList, ReadOnlyAdmin):
    """What operators want said, and what became of it."""

    list_display = ["what", "state_badge", "where", "written", "answered", "trouble", "buttons"]
    list_filter = ["state", PlatformFilter, BY_ACCOUNT]
    search_fields = ["text", "created_by", "error", "external_id"]
    list_per_page = 50
    list_fullwidth = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reply]:
        return queries.replies()

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("sync.operate_account")

    # --- columns ---

    @admin.display(description=_("reply"))
    def what(self, reply: Reply) -> SafeString | str:
        return clipped(reply.text, "small")

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, reply: Reply) -> SafeString:
        return reply_badge(reply)

    @admin.display(description=_("conversation or post"))
    def where(self, reply: Reply) -> SafeString | str:
        target = reply.conversation or reply.post
        if target is None:
            return DASH
        return format_html('<a class="m-link" href="{}">{}</a>', page_of(target), str(target)[:80])

    @admin.display(description=_("written"), ordering="id")
    def written(self, reply: Reply) -> SafeString:
        return format_html(
            '<span class="m-two"><span>{}</span><small>{}</small></span>',
            moment(reply.created_at),
            reply.created_by,
        )

    @admin.display(description=_("sent"), ordering="sent_at")
    def answered(self, reply: Reply) -> SafeString | str:
        return moment(reply.sent_at)

    @admin.display(description=_("the platform's answer"))
    def trouble(self, reply: Reply) -> SafeString | str:
        return clipped(said(reply.error), "small")

    @admin.display(description="")
    def buttons(self, reply: Reply) -> SafeString | str:
        may_cancel = reply.state in (ReplyState.PENDING, ReplyState.FAILED)
        if not may_cancel or services.is_being_sent(reply, timezone.now()):
            return ""
        failed = reply.state == ReplyState.FAILED
        parts = [self._button(reply, "retry", "refresh", gettext("Try again"))] if failed else []
        if reply.needs_decision:
            parts.append(_anyway(reply))
        word = gettext("Give up") if failed else gettext("Take back")
        parts.append(self._button(reply, "cancel", "undo", word))
        return format_html('<span class="m-buttons">{}</span>', SafeString("".join(parts)))

    def _button(self, reply: Reply, verb: str, icon: str, word: str) -> SafeString:
        address = reverse(f"admin:sync_reply_{verb}", args=[reply.pk])
        return format_html(
            '<button type="submit" id="{verb}-{pk}" formaction="{url}" hx-post="{url}"'
            ' hx-swap="none" hx-disabled-elt="this" title="{word}" aria-label="{word}">'
            '<span class="material-symbols-outlined" aria-hidden="true">{icon}</span></button>',
            verb=verb,
            pk=reply.pk,
            url=address,
            word=word,
            icon=icon,
        )

    def get_list_display(self, request: HttpRequest) -> Any:
        shown = list(super().get_list_display(request))
        return shown if self.has_operate_permission(request) else shown[:-1]

    # --- beside a conversation or post ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<slug:kind>/<int:pk>/thread/", view(self.thread_view), name="sync_reply_thread"),
            path("<slug:kind>/<int:pk>/write/", view(self.write_view), name="sync_reply_write"),
            path(
                "<int:pk>/cancel/", view(require_POST(self.cancel_view)), name="sync_reply_cancel"
            ),
            path("<int:pk>/retry/", view(require_POST(self.retry_view)), name="sync_reply_retry"),
            path("<int:pk>/send-anyway/", view(self.anyway_view), name="sync_reply_anyway"),
            *super().get_urls(),
        ]

    def thread_view(self, request: HttpRequest, kind: str, pk: int) -> HttpResponse:
        """What waits, failed, or was sent and not yet read back; and who else writes there."""
        thread = thread_of(self._target(request, kind, pk))
        now = timezone.now()
        others = queries.written_by_others(thread, request.user.get_username(), now - JUST_NOW)
        rows = [
            (
                reply,
                reply_badge(reply),
                moment(reply.created_at),
                services.is_being_sent(reply, now),
            )
            for reply in list(queries.thread_replies(thread)[:SHOWN])[::-1]
        ]
        account = queries.accounts().get(pk=thread.account_id) if rows else None
        context = {
            "rows": rows,
            "others": [(one.created_by, age(one.created_at, now)) for one in others[:3]],
            "no_worker": queries.why_no_worker(account) if account else "",
            "may_operate": self.has_operate_permission(request),
        }
        return TemplateResponse(request, "console/thread_replies.html", context)

    def write_view(self, request: HttpRequest, kind: str, pk: int) -> HttpResponse:
        """The box for a reply to this; POST queues one and answers with an empty box."""
        target = self._target(request, kind, pk)
        if not self.has_operate_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._box(request, target)
        text = request.POST.get("text", "")
        try:
            key = uuid.UUID(request.POST["key"]) if request.POST.get("key") else None
        except ValueError:
            key = None
        try:
            services.queue_reply(target, text, request.user.get_username(), key)
        except ValidationError as invalid:
            return self._refused(request, target, text, " ".join(invalid.messages))
        except SyncError as refused:
            return self._refused(request, target, text, str(refused))
        if not request.headers.get("HX-Request"):
            messages.success(request, gettext("The reply is in the outbox."))
            return HttpResponseRedirect(page_of(target))
        response = self._box(request, thread_of(target))
        return trigger_client_event(response, "replies", {})

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._act(request, pk, services.cancel_reply, "Taken back.", _taken_back)

    def retry_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._act(
            request,
            pk,
            services.retry_reply,
            "Tried again.",
            lambda _reply: gettext("It is tried again."),
        )

    def anyway_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """GET asks, POST does."""
        if request.method == "POST":
            return self._act(
                request,
                pk,
                partial(services.retry_reply, send_anyway=True),
                "Sent again anyway.",
                lambda _reply: gettext("It is sent again."),
            )
        if not self.has_operate_permission(request):
            raise PermissionDenied
        reply = get_object_or_404(queries.replies(), pk=pk)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Send again anyway"),
            "opts": self.opts,
            "reply": reply,
            "back_to": _back_to(reply),
        }
        return TemplateResponse(request, "console/reply_send_anyway.html", context)

    def _act(
        self,
        request: HttpRequest,
        pk: int,
        act: Callable[[int, str], Reply],
        trail: str,
        done: Callable[[Reply], str],
    ) -> HttpResponse:
        if not self.has_operate_permission(request):
            raise PermissionDenied
        back_to = _back_to(get_object_or_404(queries.replies(), pk=pk))
        try:
            told = done(act_on_reply(request.user, pk, act, trail))
        except SyncError as refused:
            return answer(request, messages.ERROR, str(refused), back_to)
        return answer(request, messages.SUCCESS, told, back_to)

    def _refused(
        self, request: HttpRequest, target: Target, text: str, trouble: str
    ) -> HttpResponse:
        if request.headers.get("HX-Request"):
            return self._box(request, target, text, trouble)
        messages.error(request, trouble)
        return HttpResponseRedirect(page_of(target))

    def _box(
        self,
        request: HttpRequest,
        target: Target,
        text: str = "",
        trouble: str = "",
    ) -> HttpResponse:
        context = {**reply_box(target, text, trouble), "may_operate": True, "reply_focus": True}
        return TemplateResponse(request, "console/reply_form.html", context)

    def _target(self, request: HttpRequest, kind: str, pk: int) -> Target:
        if kind not in TARGETS or not 1 <= pk < 2**63:
            raise Http404
        if not request.user.has_perm("sync.view_reply"):
            raise PermissionDenied
        accounts = ["account", "post__account"] if kind == "comment" else ["account"]
        hidden = (f"{path}__{name}" for path in accounts for name in (*queries.SECRETS, "cursor"))
        rows: QuerySet[Any] = TARGETS[kind].objects.select_related(*accounts).defer(*hidden)
        found: Target = get_object_or_404(rows, pk=pk)
        return found
