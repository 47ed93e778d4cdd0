"""The Douyin adapter: a platform, and the connection of one account."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import httpx
from pydantic import BaseModel, ValidationError

from sync.errors import LoginExpired, LoginFailed, RequestRejected
from sync.platforms.base import Connection, Hooks, Platform, Tell
from sync.platforms.douyin import wire
from sync.platforms.douyin.client import ConsentOver, DouyinClient
from sync.platforms.douyin.events import comment, read_event
from sync.platforms.douyin.hooks import DouyinHooks
from sync.platforms.douyin.place import Place
from sync.platforms.douyin.reader import Reader
from sync.platforms.douyin.sentences import SENTENCES
from sync.platforms.rest import readable, refused
from sync.types import (
    AccountRef,
    Batch,
    LastKnown,
    LoginSessionState,
    LoginStep,
    OutgoingReply,
    Record,
    RecordKind,
    Refused,
)

DAY_S = 86_400.0
# An access token lasts 15 days, a refresh token 30 and can be renewed five times; each is changed
# well before its end, so that some days of outage do no harm.
REFRESH_BEFORE_S = 2 * DAY_S
RENEW_BEFORE_S = 15 * DAY_S
ASK_AGAIN_S = 1.0
# A lost answer to a comment: it was made at most so long before we wrote down that we try.
CLOCK_SKEW_S = 300.0
CONSENT = "open this address, give consent, and hand over the code that it leads back with"


class Douyin(Platform):
    """Works are posts. Comments are read and pushed; private messages are pushed alone."""

    name: ClassVar[str] = "douyin"
    label: ClassVar[str] = "抖音 Douyin"
    sentences: ClassVar[tuple[str, ...]] = SENTENCES
    needs_endpoint: ClassVar[bool] = False
    default_endpoint: ClassVar[str] = "https://open.douyin.com"
    credentials: ClassVar[type[BaseModel]] = wire.DouyinCredentials
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset(
        {RecordKind.CONVERSATION, RecordKind.POST, RecordKind.COMMENT}
    )
    longest_reply: ClassVar[int] = 500
    asks_person: ClassVar[bool] = True
    hooks: ClassVar[Hooks | None] = DouyinHooks()

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[DouyinConnection]:
        async with httpx.AsyncClient(
            base_url=account.endpoint or self.default_endpoint,
            headers={"User-Agent": "Muster"},
            limits=httpx.Limits(max_connections=4),
        ) as http:
            yield DouyinConnection(account, http)

    def reread(self, account: AccountRef, kind: str, raw: str) -> list[Record | Refused]:
        """What was pushed, or a comment as the list has it with its work's id."""
        try:
            given = json.loads(raw)
            if kind == RecordKind.COMMENT and isinstance(given, dict) and "comment" in given:
                one = wire.Comment.model_validate(given["comment"])
                return [comment(one, str(given["item_id"]), "", account.identifier)]
        except ValidationError as error:
            return [refused(given, error, kind)]
        except (ValueError, RecursionError):
            return [refused(raw, "it is not JSON", kind)]
        return read_event(given, account.identifier)


class DouyinConnection(Connection):
    """One account's requests. See `sync.platforms.base.Connection` for what the methods promise."""

    def __init__(
        self,
        account: AccountRef,
        http: httpx.AsyncClient,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._account, self._now = account, now
        self._client = DouyinClient(http)
        self.session: dict[str, object] = dict(account.session)
        self._use()

    async def login(self, tell: Tell) -> dict[str, object]:
        """The new session: tokens with their ends, open_id.

        By the refresh token that there is; where there is none, or its time is over, by the owner's
        consent: `tell` shows where to give it, and is asked for the code that comes of it. Also
        raises `LoginFailed` when another account than this one gave consent.
        """
        try:
            credentials = wire.DouyinCredentials.model_validate(dict(self._account.credentials))
        except ValidationError as error:
            raise LoginFailed(f"the credentials are not usable: {readable(error)}") from None
        held = _session(self.session)
        refresh_token = held.refresh_token or credentials.refresh_token
        if refresh_token:
            try:
                return await self._refresh(credentials, held, refresh_token)
            except ConsentOver:
                if not credentials.redirect_uri:
                    raise
        return await self._ask_consent(credentials, tell)

    async def _refresh(
        self, credentials: wire.DouyinCredentials, held: wire.Session, refresh_token: str
    ) -> dict[str, object]:
        token = await self._client.refreshed(credentials.client_key, refresh_token)
        now = self._now()
        ends_at = (
            now + token.refresh_expires_in
            if token.refresh_expires_in
            else (held.refresh_expires_at)
        )
        kept = wire.Session(
            access_token=token.access_token,
            refresh_token=token.refresh_token or refresh_token,
            open_id=token.open_id or held.open_id or self._account.identifier,
            expires_at=now + token.expires_in,
            refresh_expires_at=ends_at,
        )
        if kept.refresh_expires_at and kept.refresh_expires_at - now < RENEW_BEFORE_S:
            kept = await self._renew(credentials, kept)
        return self._take(kept)

    async def _renew(self, credentials: wire.DouyinCredentials, kept: wire.Session) -> wire.Session:
        """With another refresh token; the same one once it was renewed five times."""
        try:
            renewed = await self._client.renewed(credentials.client_key, kept.refresh_token)
        except (RequestRejected, LoginFailed):
            return kept
        return kept.model_copy(
            update={
                "refresh_token": renewed.refresh_token,
                "refresh_expires_at": self._now() + renewed.expires_in,
            }
        )

    async def _ask_consent(
        self, credentials: wire.DouyinCredentials, tell: Tell
    ) -> dict[str, object]:
        if not credentials.redirect_uri:
            raise LoginFailed("the consent has run out: give a new refresh_token")
        state = secrets.token_urlsafe(16)
        url = self._client.authorize_url(credentials.client_key, credentials.redirect_uri, state)
        step = LoginStep(LoginSessionState.PENDING, CONSENT, url=url)
        while not (answer := await tell(step)):
            await asyncio.sleep(ASK_AGAIN_S)
        if answer.get("state") not in (None, "", state):
            raise LoginFailed("the code belongs to another login: begin anew")
        code = str(answer.get("code") or "")
        if not code:
            raise LoginFailed("there is no code in the answer")
        try:
            token = await self._client.token_for_code(
                credentials.client_key, credentials.client_secret, code
            )
        except (RequestRejected, LoginExpired) as error:
            raise LoginFailed(str(error)) from None
        now = self._now()
        return self._take(
            wire.Session(
                access_token=token.access_token,
                refresh_token=token.refresh_token,
                open_id=token.open_id,
                expires_at=now + token.expires_in,
                refresh_expires_at=now + token.refresh_expires_in,
            )
        )

    def _take(self, kept: wire.Session) -> dict[str, object]:
        if kept.open_id != self._account.identifier:
            raise LoginFailed(
                f"this consent is {kept.open_id}'s, not {self._account.identifier}'s (open_id)"
            )
        self.session = kept.model_dump()
        self._use()
        return self.session

    def _use(self) -> None:
        held = _session(self.session)
        self._client.token, self._client.open_id = held.access_token, held.open_id

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        """Also raises `LoginExpired` shortly before the access token's end: then it is changed."""
        held = _session(self.session)
        if not held.access_token:
            raise LoginExpired("not logged in")
        if held.expires_at - self._now() < REFRESH_BEFORE_S:
            raise LoginExpired("the access token ends soon")
        async for batch in Reader(self._client, self._now).read(Place.parse(cursor)):
            yield batch

    def cursor_after(self, known: LastKnown) -> str:
        """All works are listed, and the comments of those read that have another number of them
        than we have: a reply to an old comment stands below it and not at the newest end, so no
        time tells where to stop. The same number may hide that one was deleted, which Douyin does
        not tell, and one is new: such works are read within a day."""
        counts = {item: one.comments for item, one in known.posts.items()}
        return Place.after_loss(counts, self._now()).text() if counts else ""

    async def send(self, reply: OutgoingReply) -> str:
        """Also raises `RequestRejected`: a private message can only answer one of theirs, and
        Douyin limits how many and how late; comments wait for review on their side."""
        if reply.conversation_id:
            if not reply.answers_id:
                raise RequestRejected(
                    "nobody has written in this conversation yet: Douyin only takes answers", 0
                )
            return await self._client.send(
                reply.conversation_id, reply.answers_sender_id, reply.answers_id, reply.text
            )
        return await self._client.reply(reply.post_id, reply.parent_id, reply.text)

    async def find_sent(self, reply: OutgoingReply) -> str | None:
        """Comments are looked for in the list, by their text: there is nothing else to know them
        by. What was sent privately can't be asked for."""
        if reply.conversation_id:
            raise RequestRejected(
                "it may have been sent: the connection broke before Douyin answered, and there is "
                "no way to ask. Look at the conversation before you send it again",
                0,
                "unknown_outcome",
            )
        since = reply.created_at.timestamp() - CLOCK_SKEW_S
        reader = Reader(self._client, self._now)
        return await reader.find_reply(
            reply.post_id, reply.parent_id, reply.text, since, reply.taken_ids
        )


def _session(stored: Any) -> wire.Session:
    """What is stored; an empty one where that is none of ours."""
    try:
        return wire.Session.model_validate(stored)
    except ValidationError:
        return wire.Session()
