"""The WhatsApp adapter: a platform, and the connection of one phone number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import ClassVar

import httpx
from pydantic import BaseModel, ValidationError

from sync.errors import LoginExpired, LoginFailed, RequestRejected
from sync.platforms.base import Connection, Hooks, Platform, Tell
from sync.platforms.rest import readable
from sync.platforms.whatsapp import wire
from sync.platforms.whatsapp.client import WhatsAppClient
from sync.platforms.whatsapp.hooks import WhatsAppHooks
from sync.platforms.whatsapp.sentences import SENTENCES
from sync.types import AccountRef, Batch, OutgoingReply, Record, RecordKind, Refused


class WhatsApp(Platform):
    """An account is a phone number, named by its id. Messages are pushed; reading asks whether the
    token still holds."""

    name: ClassVar[str] = "whatsapp"
    label: ClassVar[str] = "WhatsApp"
    sentences: ClassVar[tuple[str, ...]] = SENTENCES
    needs_endpoint: ClassVar[bool] = False
    default_endpoint: ClassVar[str] = "https://graph.facebook.com"
    credentials: ClassVar[type[BaseModel]] = wire.WhatsAppCredentials
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset({RecordKind.CONVERSATION})
    longest_reply: ClassVar[int] = 4096
    marks_read: ClassVar[bool] = True
    hooks: ClassVar[Hooks | None] = WhatsAppHooks()

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[WhatsAppConnection]:
        async with httpx.AsyncClient(
            base_url=account.endpoint or self.default_endpoint,
            headers={"User-Agent": "Muster"},
            limits=httpx.Limits(max_connections=4),
        ) as http:
            yield WhatsAppConnection(account, http)

    def reread(self, account: AccountRef, kind: str, raw: str) -> list[Record | Refused]:
        del kind
        return list(WhatsAppHooks().read(account, {}, raw.encode(errors="replace")))


class WhatsAppConnection(Connection):
    """One number's requests. See `sync.platforms.base.Connection` for what the methods promise."""

    def __init__(self, account: AccountRef, http: httpx.AsyncClient) -> None:
        self._account = account
        token = str(account.credentials.get("access_token", ""))
        self._client = WhatsAppClient(http, token, account.identifier)
        self.session: dict[str, object] = dict(account.session)

    async def login(self, tell: Tell) -> dict[str, object]:
        """The new session: phone_number_id, phone_number, name."""
        try:
            wire.WhatsAppCredentials.model_validate(dict(self._account.credentials))
        except ValidationError as error:
            raise LoginFailed(f"the credentials are not usable: {readable(error)}") from None
        if not self._account.identifier.isdecimal():
            raise LoginFailed("the account's identifier is not the id of a phone number (digits)")
        try:
            number = await self._client.phone_number()
        except (LoginExpired, RequestRejected) as error:
            raise LoginFailed(f"Meta does not take the token for this number: {error}") from None
        self.session = {
            "phone_number_id": number.id,
            "phone_number": number.display_phone_number,
            "name": number.verified_name,
        }
        return self.session

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        if not self.session.get("phone_number_id"):
            raise LoginExpired("not logged in")
        await self._client.phone_number()
        yield Batch(cursor=None)  # there is no cursor that could be lost: see `Platform.hooks`

    async def send(self, reply: OutgoingReply) -> str:
        """Also raises `RequestRejected`: e.g. 24 hours after the customer's last message."""
        return await self._client.send(reply.conversation_id, reply.text, reply.key)

    async def mark_read(self, conversation_id: str, message_id: str, sent_at: datetime) -> None:
        """Two blue ticks at it, and at all before it; also raises `RequestRejected`, e.g. for one
        older than 30 days."""
        await self._client.mark_read(message_id)

    async def find_sent(self, reply: OutgoingReply) -> str | None:
        """The Cloud API has no list of what was sent: whether it was is for a person to say."""
        raise RequestRejected(
            "it may have been sent: the connection broke before WhatsApp answered, and there is no "
            "way to ask. Look at the chat before you send it again",
            0,
            "unknown_outcome",
        )
