"""The Telegram adapter: a platform, and the connection of one bot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx
from pydantic import BaseModel, ValidationError

from sync.errors import LoginExpired, LoginFailed, RequestRejected
from sync.platforms.base import Connection, Hooks, Platform, Tell
from sync.platforms.rest import readable
from sync.platforms.telegram import wire
from sync.platforms.telegram.client import MOST_UPDATES, Moved, TelegramClient
from sync.platforms.telegram.events import message_id, read_update
from sync.platforms.telegram.hooks import TelegramHooks, bot_id
from sync.platforms.telegram.place import Place
from sync.platforms.telegram.sentences import SENTENCES
from sync.types import (
    AccountRef,
    Batch,
    OpenGap,
    OutgoingReply,
    Record,
    RecordKind,
    Refused,
)

LONGEST_POLL_S = 30.0
SHORTEST_POLL_S = 1.0  # Telegram counts whole seconds


def now_utc() -> datetime:
    return datetime.now(UTC)


class Telegram(Platform):
    """Chats are conversations. With a webhook secret Telegram pushes; else the bot is polled."""

    name: ClassVar[str] = "telegram"
    label: ClassVar[str] = "Telegram"
    sentences: ClassVar[tuple[str, ...]] = SENTENCES
    can_wait: ClassVar[bool] = True
    needs_endpoint: ClassVar[bool] = False
    default_endpoint: ClassVar[str] = "https://api.telegram.org"
    credentials: ClassVar[type[BaseModel]] = wire.TelegramCredentials
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset({RecordKind.CONVERSATION})
    longest_reply: ClassVar[int] = 4096
    hooks: ClassVar[Hooks | None] = TelegramHooks()

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[TelegramConnection]:
        async with httpx.AsyncClient(
            base_url=account.endpoint or self.default_endpoint,
            headers={"User-Agent": "Muster"},
            limits=httpx.Limits(max_connections=4),
        ) as http:
            yield TelegramConnection(account, http)

    def reread(self, account: AccountRef, kind: str, raw: str) -> list[Record | Refused]:
        del kind
        return list(TelegramHooks().read(account, {}, raw.encode(errors="replace")))


class TelegramConnection(Connection):
    """One bot's requests. See `sync.platforms.base.Connection` for what the methods promise.

    Telegram calls no cursor invalid: any number is an offset. Where ours is lost (this adapter
    can't read it), there is nothing better than none: asked without an offset Telegram sends all
    that no offset has confirmed, which is all that can still be had, and of what we have at most
    the page that was stored last. Gaps that were known stay. What it drops in that time (24 hours)
    leaves none: nobody knows the number of the last update then.
    """

    def __init__(
        self,
        account: AccountRef,
        http: httpx.AsyncClient,
        now: Callable[[], datetime] = now_utc,
    ) -> None:
        self._account, self._now = account, now
        self._client = TelegramClient(http, str(account.credentials.get("bot_token", "")))
        self.session: dict[str, object] = dict(account.session)

    async def login(self, tell: Tell) -> dict[str, object]:
        """The new session: user_id, username. Also raises `LoginFailed` when the bot is another one
        than the account."""
        try:
            wire.TelegramCredentials.model_validate(dict(self._account.credentials))
        except ValidationError as error:
            raise LoginFailed(f"the credentials are not usable: {readable(error)}") from None
        try:
            me = await self._client.me()
        except (LoginExpired, RequestRejected) as error:
            raise LoginFailed(f"Telegram does not take the bot token ({error})") from None
        expected = self._account.identifier
        names = {str(me.id), me.username.casefold(), f"@{me.username}".casefold()}
        if expected.casefold() not in names:
            raise LoginFailed(f"this token is @{me.username}'s ({me.id}), not {expected}'s")
        self.session = {"user_id": me.id, "username": me.username}
        return self.session

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        if not self.session.get("user_id"):
            raise LoginExpired("not logged in")
        if self._account.credentials.get("webhook_secret"):
            await asyncio.sleep(wait_s)  # what is pushed wakes the account's check
            yield await self._pushed(Place.parse(cursor))
            return
        async for batch in self._polled(Place.parse(cursor), wait_s):
            yield batch

    async def _polled(self, place: Place, wait_s: float) -> AsyncIterator[Batch]:
        """The caller has stored a batch when it asks for the next one: only then Telegram is told
        to forget what was in it, by the offset of the next request."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        while True:
            left_s = max(0.0, deadline - clock())
            if 0 < left_s < SHORTEST_POLL_S:
                await asyncio.sleep(left_s)
                left_s = 0.0
            behind = place.behind(self._now())
            updates = await self._client.updates(behind, min(left_s, LONGEST_POLL_S))
            more = len(updates) >= MOST_UPDATES
            if updates:
                place = place.after(_numbers(updates), self._now())
            if updates or wait_s <= 0:
                yield self._batch(updates, place, more)
            if more:
                deadline = clock()
            elif updates or left_s <= 0:
                return

    def _batch(self, updates: list[Any], place: Place, more: bool) -> Batch:
        rows = [row for raw in updates for row in read_update(raw, bot_id(self._account))]
        return Batch(
            cursor=place.text(),
            records=tuple(row for row in rows if not isinstance(row, Refused)),
            refused=tuple(row for row in rows if isinstance(row, Refused)),
            more=more,
            gaps=place.open_gaps,
        )

    async def _pushed(self, place: Place) -> Batch:
        """Nothing to read: Telegram refuses to be polled. Raises `RequestRejected` without one.

        What is polled once it no longer pushes has no number that we could expect."""
        info = await self._client.webhook_info()
        if not info.url:
            raise RequestRejected(
                "the account has a webhook_secret, but no webhook is set at Telegram: call "
                "setWebhook as the account's page says, or take the webhook_secret away",
                409,
                "no_webhook",
            )
        cursor = Place(gaps=place.gaps).text()
        return Batch(cursor, remaining=max(info.pending_update_count, 0))

    def cursor_keeping(self, gaps: Sequence[OpenGap]) -> str:
        return Place.with_gaps(gaps).text()

    async def send(self, reply: OutgoingReply) -> str:
        """Also raises `RequestRejected`: blocked by the user, chat not found, message too long."""
        try:
            sent = await self._client.send(reply.conversation_id, reply.text)
        except Moved as moved:
            sent = await self._client.send(str(moved.chat_id), reply.text)
        return message_id(sent.chat.id, sent.message_id)

    async def find_sent(self, reply: OutgoingReply) -> str | None:
        """A bot can't read what it sent: whether it was is for a person to say."""
        raise RequestRejected(
            "it may have been sent: the connection broke before Telegram answered, and a bot can't "
            "ask. Look at the chat before you send it again",
            0,
            "unknown_outcome",
        )


def _numbers(updates: list[Any]) -> list[int]:
    numbers = (one.get("update_id") if isinstance(one, dict) else None for one in updates)
    return [one for one in numbers if isinstance(one, int) and one >= 0]
