"""The inbox: conversations with their unread counts, and the page of one conversation."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.decorators import action

from lifecycle.console.ids import row_id
from lifecycle.console.live import DASH, LiveList, ReadOnlyAdmin, answer, moment, polls, two_lines
from sync import queries, store
from sync.admin.reply_box import reply_box
from sync.models import Conversation, Message
from sync.platforms import registry

PAGE = 50  # messages shown at first, and by each click on "older"
LONGEST = 500  # messages that one poll shows at most


def platform_label(name: str) -> str:
    """How people call a platform; its name if the adapter is no longer installed."""
    platform = registry().get(name)
    return platform.label if platform else name


def face(text: str) -> SafeString:
    """A round initial in a colour of its own, so that rows are told apart at a glance."""
    hue = int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) % 360
    initial = next((c for c in text if c.isalnum()), "?").upper()
    return format_html(
        '<span class="m-face" style="--hue:{}" aria-hidden="true">{}</span>', hue, initial
    )


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
        return [(name, platform.label) for name, platform in registry().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.field: self.value()}) if self.value() else queryset


@admin.register(Conversation)
class ConversationAdmin(LiveList, ReadOnlyAdmin):
    """Newest first. Opening one does not mark it read: somebody else may have to answer."""

    list_display = ["who", "said", "when", "unread", "account_name"]
    list_filter = [UnreadFilter, PlatformFilter, "account"]
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
            '<span class="m-who {}">{}<span class="m-two"><b>{}</b><small>{}</small></span></span>',
            "m-unread" if row.unread_count else "m-read",
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

    # --- the page of one conversation ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        read = view(require_POST(self.read_view))
        return [
            path("<int:pk>/read/", read, name="sync_conversation_read"),
            path("<int:pk>/older/", view(self.older_view), name="sync_conversation_older"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The latest messages; polled as `live-chat` with `?since=<first shown message>`."""
        conversation = self._conversation(request, object_id)
        shown = since(conversation, request.GET.get("since", "")) or latest(conversation)
        context: dict[str, Any] = {
            "conversation": conversation,
            "shown": [(message, moment(message.sent_at)) for message in shown],
            "last_id": shown[-1].pk if shown else "",
        }
        if polls(request, "live-chat"):
            return TemplateResponse(request, "console/chat.html", context)
        context |= {
            **self.admin_site.each_context(request),
            "title": str(conversation),
            "opts": self.opts,
            "original": conversation,
            "face": face(str(conversation)),
            "platform": platform_label(conversation.account.platform),
            "first_id": shown[0].pk if shown else "",
            "has_older": bool(shown) and len(shown) == PAGE,
            "may_operate": self.has_operate_permission(request),
            **reply_box(conversation),
        }
        return TemplateResponse(request, "console/conversation.html", context)

    def older_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A page of messages before `?before=<message>`, with the button for the next one."""
        conversation = self._conversation(request, pk)
        first = message_of(conversation, request.GET.get("before", ""))
        if first is None:
            raise Http404
        earlier = Q(sent_at__lt=first.sent_at) | Q(sent_at=first.sent_at, pk__lt=first.pk)
        rows = newest_last(queries.messages(conversation.pk).filter(earlier), PAGE)
        context = {
            "conversation": conversation,
            "shown": [(message, moment(message.sent_at)) for message in rows],
            "first_id": rows[0].pk if rows else "",
            "has_older": len(rows) == PAGE,
        }
        return TemplateResponse(request, "console/chat_older.html", context)

    def read_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Mark read up to the message that the person saw last: later ones stay unread."""
        conversation = self._conversation(request, pk)
        if not self.has_operate_permission(request):
            raise PermissionDenied
        last = request.POST.get("up_to", "")
        back_to = reverse("admin:sync_conversation_change", args=[pk])
        message = message_of(conversation, last)
        if last and message is None:
            text = gettext("There is no message %(id)s in this conversation.") % {"id": last[:50]}
            return answer(request, messages.ERROR, text, back_to)
        if message or "up_to" not in request.POST:  # not given: to the end, as over the API
            marked = store.mark_read(conversation.pk, message.pk if message else None)
        else:  # nothing was shown, so nothing was seen
            marked = 0
        return answer(request, messages.SUCCESS, marked_text(marked), back_to)

    def _conversation(self, request: HttpRequest, pk: int | str) -> Conversation:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if (found := row_id(pk)) is None:
            raise Http404
        return get_object_or_404(queries.conversations(), pk=found)


def marked_text(marked: int) -> str:
    if not marked:
        return gettext("There was nothing unread.")
    return ngettext("%(n)d message marked read.", "%(n)d messages marked read.", marked) % {
        "n": marked
    }


def message_of(conversation: Conversation, pk: str) -> Message | None:
    found = row_id(pk)
    return queries.messages(conversation.pk).filter(pk=found).first() if found else None


def since(conversation: Conversation, first_id: str) -> list[Message]:
    """The messages from the first shown one on, so that a poll never shortens the page."""
    first = message_of(conversation, first_id)
    if first is None:
        return []
    later = Q(sent_at__gt=first.sent_at) | Q(sent_at=first.sent_at, pk__gte=first.pk)
    return newest_last(queries.messages(conversation.pk).filter(later), LONGEST)


def latest(conversation: Conversation) -> list[Message]:
    return newest_last(queries.messages(conversation.pk), PAGE)


def newest_last(rows: QuerySet[Message], limit: int) -> list[Message]:
    return list(rows.order_by("-sent_at", "-pk")[:limit])[::-1]
