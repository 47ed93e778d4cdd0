"""Accounts, records and a tiny platform for the tests of sync."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ClassVar

from django.db.models import Count, F, Q
from pydantic import BaseModel

from sync.duties import AssignmentDuty, ChecksDuty
from sync.models import Account, Comment, Conversation, Message, Post
from sync.platforms.base import Connection, Platform, Tell
from sync.types import (
    AccountRef,
    Batch,
    CommentRecord,
    ConversationRecord,
    Direction,
    Lease,
    MessageRecord,
    PostRecord,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
numbers = count(1)


def make_account(**fields: Any) -> Account:
    values = {"platform": "tiny", "identifier": f"@tiny-{next(numbers)}:test", **fields}
    return Account.objects.create(**values)


class AccountsDuty:
    """Both duties for accounts, one after the other, as the leading master runs them."""

    name = "accounts"
    channels = ChecksDuty.channels

    def __init__(self) -> None:
        self._assignment, self._checks = AssignmentDuty(), ChecksDuty()

    def run(self, now: datetime) -> datetime:
        return min(self._assignment.run(now), self._checks.run(now))


def lease(account: Account) -> Lease:
    return Lease(account.pk, account.epoch)


def message(number: int = 1, conversation: str = "c1", **fields: Any) -> MessageRecord:
    values: dict[str, Any] = {
        "external_id": f"m{number}",
        "conversation_id": conversation,
        "sender_id": "@ann",
        "sender_name": "Ann",
        "text": f"text {number}",
        "sent_at": NOON + timedelta(seconds=number),
        "direction": Direction.INBOUND,
    }
    return MessageRecord(**{**values, **fields})


def conversation(external_id: str = "c1", title: str = "Talk") -> ConversationRecord:
    return ConversationRecord(external_id, title, is_group=True)


def post(number: int = 1, **fields: Any) -> PostRecord:
    values: dict[str, Any] = {
        "external_id": f"p{number}",
        "author_id": "@us",
        "author_name": "Us",
        "title": "A work",
        "text": "",
        "url": "https://example.org/1",
        "published_at": NOON,
    }
    return PostRecord(**{**values, **fields})


def comment(number: int = 1, post_id: str = "p1", **fields: Any) -> CommentRecord:
    values: dict[str, Any] = {
        "external_id": f"k{number}",
        "post_id": post_id,
        "parent_id": "",
        "author_id": "@bob",
        "author_name": "Bob",
        "text": f"comment {number}",
        "published_at": NOON + timedelta(seconds=number),
    }
    return CommentRecord(**{**values, **fields})


def rows(account: Account) -> dict[str, list[tuple[Any, ...]]]:
    """All that is stored for an account, without what depends on when it was stored."""
    return {
        "conversations": list(
            Conversation.objects.filter(account=account)
            .order_by("external_id")
            .values_list(
                "external_id",
                "title",
                "is_group",
                "messages_total",
                "unread_count",
                "last_message_at",
                "last_message_text",
                "last_sender_name",
            )
        ),
        "messages": list(
            Message.objects.filter(account=account)
            .order_by("external_id")
            .values_list(
                "external_id",
                "conversation__external_id",
                "sender_id",
                "sender_name",
                "text",
                "content_type",
                "direction",
                "sent_at",
                "edited_at",
                "is_deleted",
                "is_read",
            )
        ),
        "posts": list(
            Post.objects.filter(account=account)
            .order_by("external_id")
            .values_list("external_id", "title", "text", "author_name", "published_at")
        ),
        "comments": list(
            Comment.objects.filter(account=account)
            .order_by("external_id")
            .values_list("external_id", "post__external_id", "text", "direction")
        ),
    }


def check_counters(account: Account) -> None:
    """Every counter equals a recount of the rows."""
    account.refresh_from_db()
    unread = Q(direction="inbound", is_read=False)
    messages = Message.objects.filter(account=account)
    assert account.messages_total == messages.count()
    assert account.unread_total == messages.filter(unread).count()
    assert account.conversations_total == Conversation.objects.filter(account=account).count()
    assert account.posts_total == Post.objects.filter(account=account).count()
    assert account.comments_total == Comment.objects.filter(account=account).count()
    counted = Conversation.objects.filter(account=account).annotate(
        stored=Count("messages"),
        to_read=Count("messages", filter=Q(messages__direction="inbound", messages__is_read=False)),
    )
    wrong = counted.exclude(messages_total=F("stored"), unread_count=F("to_read"))
    assert list(wrong) == []


class TinyCredentials(BaseModel):
    user: str
    password: str


class TinyConnection(Connection):
    """A connection that does what the test's script says."""

    def __init__(self, platform: TinyPlatform, account: AccountRef) -> None:
        self.platform = platform
        self.account = account
        self.session = dict(account.session)

    async def login(self, tell: Tell) -> dict[str, object]:
        self.platform.logins += 1
        await self.platform.on_login(self.account)
        self.session = {"token": f"secret-token-{self.platform.logins}"}
        return self.session

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        self.platform.reads.append((cursor, wait_s))
        async with aclosing(self.platform.on_read(cursor, wait_s)) as batches:
            async for batch in batches:
                yield batch


async def accept(_account: AccountRef) -> None:
    return None


async def nothing(_cursor: str, _wait_s: float) -> AsyncGenerator[Batch, None]:
    none: tuple[Batch, ...] = ()
    for batch in none:
        yield batch


class TinyPlatform(Platform):
    """A platform in a few lines; tests replace `on_login` and `on_read`."""

    name: ClassVar[str] = "tiny"
    label: ClassVar[str] = "Tiny"
    can_wait: ClassVar[bool] = False
    needs_endpoint: ClassVar[bool] = True
    credentials: ClassVar[type[BaseModel]] = TinyCredentials

    def __init__(self) -> None:
        self.logins = 0
        self.opened = self.closed = 0
        self.reads: list[tuple[str, float]] = []
        self.on_login: Callable[[AccountRef], Any] = accept
        self.on_read: Callable[[str, float], AsyncGenerator[Batch, None]] = nothing

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[TinyConnection]:
        self.opened += 1
        try:
            yield TinyConnection(self, account)
        finally:
            self.closed += 1


def script(*steps: Batch | Exception) -> Callable[[str, float], AsyncGenerator[Batch, None]]:
    """An `on_read` that yields or raises the steps in order, over however many reads."""
    left = list(steps)

    async def read(_cursor: str, _wait_s: float) -> AsyncGenerator[Batch, None]:
        while left:
            step = left.pop(0)
            if isinstance(step, Exception):
                raise step
            yield step

    return read


def waiting(started: Any) -> Callable[[str, float], AsyncGenerator[Batch, None]]:
    """An `on_read` that waits for news that never come; `started` is set once it waits."""

    async def read(_cursor: str, wait_s: float) -> AsyncGenerator[Batch, None]:
        if wait_s:
            started.set()
        await asyncio.sleep(wait_s)
        none: tuple[Batch, ...] = ()
        for batch in none:
            yield batch

    return read


def most_rows(node: dict[str, Any]) -> int:
    """The most rows that any node of a plan went through."""
    loops = node["Actual Loops"]
    seen = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * loops
    return max([int(seen), *map(most_rows, node.get("Plans", []))])
