"""The page of one conversation: its messages, what they said before, and marking them read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_POST

from lifecycle.console.ids import row_id
from lifecycle.console.live import AdminBase, answer, moment, polls, visible
from sync import queries, store
from sync.admin.live import feed_position
from sync.admin.looks import face, platform_label
from sync.admin.reply_box import reply_box
from sync.admin.versions import Former, former
from sync.models import Conversation, Message
from sync.types import RecordKind

PAGE = 50  # messages shown at first, and by each click on "older"
LONGEST = 500  # messages that are shown anew at most
FRESH = 200  # messages that a page asks for by id at once


@dataclass(frozen=True, slots=True)
class File:
    """An attachment: it stays on the platform, so there is a link only where a browser has one."""

    name: str
    url: str
    link: str


@dataclass(frozen=True, slots=True)
class Bubble:
    """A message as it is shown, with what it said before."""

    message: Message
    time: SafeString | str
    files: Sequence[File]
    former: Former


class ConversationPage(AdminBase):
    """The part of `ConversationAdmin` that shows one conversation."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        read = view(require_POST(self.read_view))
        return [
            path("<int:pk>/read/", read, name="sync_conversation_read"),
            path("<int:pk>/older/", view(self.older_view), name="sync_conversation_older"),
            path("<int:pk>/messages/", view(self.fresh_view), name="sync_conversation_messages"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The latest messages; asked for anew as `live-chat` with `?since=<first shown message>`.

        What comes later is fetched by id when the feed tells of it.
        """
        feed_position(request)
        conversation = self.conversation(request, object_id)
        shown = since(conversation, request.GET.get("since", "")) or latest(conversation)
        context: dict[str, Any] = {
            "conversation": conversation,
            "shown": bubbles(shown),
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
            "may_operate": request.user.has_perm("sync.operate_account"),
            **reply_box(conversation),
        }
        return TemplateResponse(request, "console/conversation.html", context)

    def older_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A page of messages before `?before=<message>`, with the button for the next one."""
        conversation = self.conversation(request, pk)
        first = message_of(conversation, request.GET.get("before", ""))
        if first is None:
            raise Http404
        earlier = Q(sent_at__lt=first.sent_at) | Q(sent_at=first.sent_at, pk__lt=first.pk)
        rows = newest_last(queries.messages(conversation.pk).filter(earlier), PAGE)
        context = {
            "conversation": conversation,
            "shown": bubbles(rows),
            "first_id": rows[0].pk if rows else "",
            "has_older": len(rows) == PAGE,
        }
        return TemplateResponse(request, "console/chat_older.html", context)

    def fresh_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The messages `?ids=1,2,3` as they are now."""
        conversation = self.conversation(request, pk)
        ids = [row_id(one) for one in request.GET.get("ids", "").split(",")][:FRESH]
        rows = queries.messages(conversation.pk).filter(pk__in=[one for one in ids if one])
        context = {"shown": bubbles(newest_last(rows, FRESH))}
        return TemplateResponse(request, "console/bubbles.html", context)

    def read_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Mark read up to the message that the person saw last: later ones stay unread."""
        conversation = self.conversation(request, pk, operate=True)
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

    def conversation(
        self, request: HttpRequest, pk: int | str, operate: bool = False
    ) -> Conversation:
        return visible(self, request, queries.conversations(), pk, operate)


def marked_text(marked: int) -> str:
    if not marked:
        return gettext("There was nothing unread.")
    return ngettext("%(n)d message marked read.", "%(n)d messages marked read.", marked) % {
        "n": marked
    }


def bubbles(rows: Sequence[Message]) -> list[Bubble]:
    """The messages with what they said before: one query more."""
    before = former(RecordKind.MESSAGE, rows)
    return [
        Bubble(row, moment(row.sent_at), list(files(row.attachments)), before.get(row.pk, []))
        for row in rows
    ]


def files(attachments: Iterable[dict[str, Any]]) -> Iterable[File]:
    for one in attachments:
        url = str(one.get("url", ""))
        yield File(one.get("name") or url, url, url if urlsplit(url).scheme in _OPENED else "")


_OPENED = ("http", "https")


def message_of(conversation: Conversation, pk: str) -> Message | None:
    found = row_id(pk)
    return queries.messages(conversation.pk).filter(pk=found).first() if found else None


def since(conversation: Conversation, first_id: str) -> list[Message]:
    """The messages from the first shown one on, so that asking anew never shortens the page."""
    first = message_of(conversation, first_id)
    if first is None:
        return []
    later = Q(sent_at__gt=first.sent_at) | Q(sent_at=first.sent_at, pk__gte=first.pk)
    return newest_last(queries.messages(conversation.pk).filter(later), LONGEST)


def latest(conversation: Conversation) -> list[Message]:
    return newest_last(queries.messages(conversation.pk), PAGE)


def newest_last(rows: QuerySet[Message], limit: int) -> list[Message]:
    return list(rows.order_by("-sent_at", "-pk")[:limit])[::-1]
