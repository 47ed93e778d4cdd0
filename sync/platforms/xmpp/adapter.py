"""The XMPP adapter: a platform, and the connection of one account."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import ClassVar
from xml.etree import ElementTree as ET

from pydantic import BaseModel, ValidationError

from sync.errors import LoginExpired, LoginFailed
from sync.platforms.base import Connection, Platform, Tell
from sync.platforms.xmpp import proof, rooms
from sync.platforms.xmpp.batches import cut
from sync.platforms.xmpp.credentials import XmppCredentials
from sync.platforms.xmpp.outbox import Bounce
from sync.platforms.xmpp.place import Place
from sync.platforms.xmpp.reader import Reader, all_news, sent_id
from sync.platforms.xmpp.sentences import SENTENCES
from sync.platforms.xmpp.stanzas import Owner, Unreadable, read_archived, read_raw
from sync.platforms.xmpp.stream import Stream
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

MARKERS = "urn:xmpp:chat-markers:0"
HINTS = "urn:xmpp:hints"
ORIGIN = "urn:xmpp:sid:0"


class Xmpp(Platform):
    """People and bookmarked rooms are conversations; every message with a text or file counts."""

    name: ClassVar[str] = "xmpp"
    label: ClassVar[str] = "XMPP"
    sentences: ClassVar[tuple[str, ...]] = SENTENCES
    needs_endpoint: ClassVar[bool] = True
    endpoint_schemes: ClassVar[tuple[str, ...]] = ("xmpps", "xmpp")
    credentials: ClassVar[type[BaseModel]] = XmppCredentials
    can_wait: ClassVar[bool] = True
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset({RecordKind.CONVERSATION})
    lists_ids: ClassVar[bool] = True
    marks_read: ClassVar[bool] = True

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[XmppConnection]:
        connection = XmppConnection(account)
        try:
            yield connection
        finally:
            await connection.close()

    def reread(self, account: AccountRef, kind: str, raw: str) -> Sequence[Record | Refused]:
        if kind != RecordKind.MESSAGE:
            return super().reread(account, kind, raw)
        try:
            item = read_raw(raw)
        except Unreadable as why:
            return [Refused(kind, "", raw, str(why))]
        record = read_archived(item, Owner(account.identifier.lower(), {}, {}))
        return [record or Refused(kind, item.archive_id, raw, "it says nothing to people")]


class XmppConnection(Connection):
    """One account's stream, opened by the first call that needs it, and again once it broke."""

    def __init__(self, account: AccountRef) -> None:
        self._account = account
        self.session: dict[str, object] = dict(account.session)
        self._stream: Stream | None = None
        self._owner = Owner("", {}, {})
        self._reader: Reader | None = None

    async def close(self) -> None:
        if self._stream:
            await self._stream.leave()
            self._stream = None

    async def login(self, tell: Tell) -> dict[str, object]:
        """The session is only the address that was logged in: XMPP has no tokens to keep."""
        await self.close()
        self._reader = None
        credentials = self._credentials()
        expected = self._account.identifier.lower()
        if "@" in expected and expected != credentials.jid.lower():
            raise LoginFailed(f"these credentials are {credentials.jid}'s, not {expected}'s")
        try:
            await self._open(credentials)
        except LoginExpired as error:
            raise LoginFailed(str(error)) from error
        self.session = {"jid": credentials.jid.lower()}
        return self.session

    def _credentials(self) -> XmppCredentials:
        try:
            return XmppCredentials.model_validate(dict(self._account.credentials))
        except ValidationError as error:
            raise LoginFailed(f"the credentials are not usable: {error}") from None

    async def _open(self, credentials: XmppCredentials) -> None:
        stream = await Stream.open(self._account.endpoint, credentials)
        try:
            names, nicks = await stream.roster(), await rooms.enter(stream)
        except BaseException:
            stream.close()
            raise
        self._stream = stream
        self._owner = Owner(stream.jid, names, nicks)
        self._reader = Reader(stream, self._owner)

    async def _opened(self) -> tuple[Stream, Reader]:
        """The open stream. Raises `LoginExpired` before a login, or when it is refused by now."""
        if not self.session.get("jid"):
            raise LoginExpired("not logged in")
        if self._stream is None or self._stream.gone.done():
            if self._stream:
                self._stream.close()
            await self._open(self._credentials())
        if self._stream is None or self._reader is None:
            raise LoginExpired("not logged in")
        return self._stream, self._reader

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        """News of all archives first, then one page of what is owed, and so on until nothing is;
        then wait. A batch carries the place from before the answer that it was cut from, except the
        last of that answer."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        place = Place.parse(cursor)
        stream, reader = await self._opened()
        reader.begin()
        while True:
            had_caught_up = bool(place.archives) and place.owed() is None
            stream.news.clear()
            brought = False
            if bounces := tuple(stream.outbox.bounces):
                refused = tuple(self._not_delivered(stream, one) for one in bounces)
                yield Batch(None, refused=refused, remaining=place.remaining())
                del stream.outbox.bounces[: len(bounces)]
                brought = True
            async for before, step in all_news(reader, place):
                for batch in cut(step.rows, before, step.place):
                    yield batch
                place, brought = step.place, brought or bool(step.rows)
            if (owed := place.owed()) is not None:
                step = await reader.page(place, owed)
                for batch in cut(step.rows, place, step.place):
                    yield batch
                place = step.place
            elif had_caught_up:
                if brought or clock() >= deadline:
                    return
                await stream.wait_for_news(deadline - clock())

    def cursor_after(self, known: LastKnown) -> str:
        """Each archive since its last message that we know, by its own clock, less two days; rooms
        that we don't know are read whole."""
        return Place(floors=dict(known.conversations)).text()

    def _not_delivered(self, stream: Stream, bounce: Bounce) -> Refused:
        id = sent_id(stream, self._owner, bounce.to, bounce.id)
        why = f"what was sent to {bounce.to} could not be delivered: {bounce.condition}"
        return Refused("status", id, json.dumps(asdict(bounce)), why)

    async def send(self, reply: OutgoingReply) -> str:
        stream, _reader = await self._opened()
        message, id = self._message(reply.conversation_id, own_id(reply.key))
        ET.SubElement(message, "{jabber:client}body").text = reply.text
        ET.SubElement(message, f"{{{ORIGIN}}}origin-id", {"id": id})
        await stream.send(message)
        return sent_id(stream, self._owner, reply.conversation_id, id)

    async def find_sent(self, reply: OutgoingReply) -> str | None:
        stream, reader = await self._opened()
        id = sent_id(stream, self._owner, reply.conversation_id, own_id(reply.key))
        return await reader.find_sent(reply, id)

    async def list_ids(
        self, since: datetime, done: Done = NOTHING_DONE
    ) -> AsyncIterator[Listing | None]:
        _stream, reader = await self._opened()
        async for listing in proof.list_ids(reader, since, done):
            yield listing

    async def fetch(self, kind: RecordKind, scope: str, ids: Sequence[str]) -> AsyncIterator[Batch]:
        """`scope` is the conversation. Only messages are listed."""
        if kind is not RecordKind.MESSAGE or not ids:
            return
        _stream, reader = await self._opened()
        async for batch in proof.fetch(reader, scope, ids):
            yield batch

    async def mark_read(self, conversation_id: str, message_id: str, sent_at: datetime) -> None:
        """A displayed marker (XEP-0333), which archives keep for our other devices, too."""
        stream, reader = await self._opened()
        target = await reader.marked(conversation_id, message_id)
        if target is None:
            return
        message, _id = self._message(conversation_id, uuid.uuid4().hex)
        ET.SubElement(message, f"{{{MARKERS}}}displayed", {"id": target})
        ET.SubElement(message, f"{{{HINTS}}}store")
        await stream.send(message)

    def _message(self, peer: str, id: str) -> tuple[ET.Element, str]:
        kind = "groupchat" if peer in self._owner.nicks else "chat"
        return ET.Element("{jabber:client}message", {"to": peer, "type": kind, "id": id}), id


def own_id(key: str) -> str:
    """The same id for the same key: what was sent can be found again."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"muster:{key}").hex
