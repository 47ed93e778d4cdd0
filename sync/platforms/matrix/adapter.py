"""The Matrix adapter: a platform, and the connection of one account."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import ClassVar

import httpx
from pydantic import BaseModel, ValidationError

from sync.errors import LoginExpired, LoginFailed, RequestRejected
from sync.platforms.base import Connection, Platform, Tell
from sync.platforms.matrix.batches import cut
from sync.platforms.matrix.client import MatrixClient
from sync.platforms.matrix.credentials import MatrixCredentials
from sync.platforms.matrix.events import read_again
from sync.platforms.matrix.place import Place
from sync.platforms.matrix.proof import fetch_messages, list_messages
from sync.platforms.matrix.reader import Reader
from sync.platforms.matrix.sentences import SENTENCES
from sync.types import (
    NOTHING_DONE,
    AccountRef,
    Batch,
    Done,
    LastKnown,
    Listing,
    OutgoingReply,
    Record,
    RecordKind,
    Refused,
)

# One long poll; proxies in front of homeservers cut connections that are silent for a minute.
LONGEST_POLL_S = 30.0


class Matrix(Platform):
    """Rooms are conversations; every m.room.message of a room is a message."""

    name: ClassVar[str] = "matrix"
    label: ClassVar[str] = "Matrix"
    sentences: ClassVar[tuple[str, ...]] = SENTENCES
    can_wait: ClassVar[bool] = True
    needs_endpoint: ClassVar[bool] = True
    credentials: ClassVar[type[BaseModel]] = MatrixCredentials
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset({RecordKind.CONVERSATION})
    sends_once: ClassVar[bool] = True
    lists_ids: ClassVar[bool] = True
    marks_read: ClassVar[bool] = True

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[MatrixConnection]:
        async with httpx.AsyncClient(
            base_url=account.endpoint.rstrip("/"),
            headers={"User-Agent": "Muster"},
            limits=httpx.Limits(max_connections=8),
        ) as http:
            yield MatrixConnection(account, MatrixClient(http))

    def reread(self, account: AccountRef, kind: str, raw: str) -> Sequence[Record | Refused]:
        """Messages; the raw records of other kinds are answers that are no longer there."""
        if kind != RecordKind.MESSAGE:
            return super().reread(account, kind, raw)
        me = str(account.session.get("user_id") or account.identifier)
        return read_again(json.loads(raw), me)


class MatrixConnection(Connection):
    """One account's requests. See `sync.platforms.base.Connection` for what the methods promise."""

    def __init__(self, account: AccountRef, client: MatrixClient) -> None:
        self._account = account
        self._client = client
        self.session: dict[str, object] = dict(account.session)
        client.token = self._word("access_token")

    async def login(self, tell: Tell) -> dict[str, object]:
        """The new session: access_token, device_id, user_id.

        Also raises `LoginFailed` when the credentials belong to somebody else than the account:
        better to watch nobody than the wrong one.
        """
        try:
            credentials = MatrixCredentials.model_validate(dict(self._account.credentials))
        except ValidationError as error:
            raise LoginFailed(f"the credentials are not usable: {error}") from None
        try:
            session = await self._log_in(credentials)
        except (RequestRejected, LoginExpired) as error:
            raise LoginFailed(str(error)) from error
        expected = self._account.identifier
        if expected.startswith("@") and expected != session["user_id"]:
            raise LoginFailed(f"these credentials are {session['user_id']}'s, not {expected}'s")
        self.session = session
        self._client.token = self._word("access_token")
        return session

    async def _log_in(self, credentials: MatrixCredentials) -> dict[str, object]:
        if credentials.access_token:
            self._client.token = credentials.access_token
            owner = await self._client.whoami()
            return {"access_token": credentials.access_token, **owner.model_dump()}
        self._client.token = ""
        answer = await self._client.login(
            credentials.username or "", credentials.password or "", self._word("device_id")
        )
        return answer.model_dump()

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        """News first, then one page of what is owed, and so on until nothing is; then wait.

        A batch carries the cursor from before the answer it was cut from, except the last of that
        answer: so a crash anywhere reads again and never skips.
        """
        if not self._word("access_token"):
            raise LoginExpired("not logged in")
        reader = Reader(self._client, me=self._word("user_id"))
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        place = Place.parse(cursor)
        while True:
            is_waiting = bool(place.since) and not place.gaps
            left_s = max(0.0, deadline - clock())
            poll_s = min(left_s, LONGEST_POLL_S) if is_waiting else 0.0
            step = await reader.news(place, poll_s)
            for batch in cut(step.rows, place, step.place):
                yield batch
            place = step.place
            if place.gaps:
                page = await reader.page(place)
                for batch in cut(page.rows, place, page.place):
                    yield batch
                place = page.place
            elif is_waiting and not step.entered and (step.rows or left_s <= poll_s):
                return

    def cursor_after(self, known: LastKnown) -> str:
        """The homeserver's first answer again, and its rooms' history down to what we know; rooms
        that we don't know are read whole. The margin is a page: history is in the homeserver's own
        order, and ends with the first page on which nothing is as new."""
        floors = {room: int(at.timestamp() * 1000) for room, at in known.conversations.items()}
        return Place(floors=floors).text()

    async def send(self, reply: OutgoingReply) -> str:
        """Also raises `RequestRejected`, e.g. M_TOO_LARGE, M_FORBIDDEN."""
        content = {"msgtype": "m.text", "body": reply.text}
        return await self._client.send(reply.conversation_id, "m.room.message", content, reply.key)

    def list_ids(self, since: datetime, done: Done = NOTHING_DONE) -> AsyncIterator[Listing]:
        return list_messages(self._client, self._word("user_id"), since, done)

    async def fetch(self, kind: RecordKind, scope: str, ids: Sequence[str]) -> AsyncIterator[Batch]:
        """`scope` is the room. Only messages are listed."""
        if kind is RecordKind.MESSAGE:
            async for batch in fetch_messages(self._client, scope, self._word("user_id"), ids):
                yield batch

    async def mark_read(self, conversation_id: str, message_id: str, sent_at: datetime) -> None:
        await self._client.mark_read(conversation_id, message_id)

    def _word(self, key: str) -> str:
        """A text of the session, "" when it isn't there."""
        return str(self.session.get(key) or "")
