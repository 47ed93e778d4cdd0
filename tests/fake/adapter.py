"""The fake platform's adapter: as a real one, over httpx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sync.batches import slices, sorted_out
from sync.errors import (
    CursorInvalid,
    LoginExpired,
    LoginFailed,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms.base import Connection, Platform, Tell
from sync.types import (
    NOTHING_DONE,
    AccountRef,
    Batch,
    Done,
    LastKnown,
    Listing,
    OpenGap,
    OutgoingReply,
    Record,
    RecordKind,
    Refused,
)
from sync.weights import Row
from tests.fake.records import read_records

TIMEOUT_S = 5.0
FETCHED_AT_ONCE = 200
AHEAD = timedelta(days=2)  # how far from ours a platform's clock may be
LISTED = (RecordKind.MESSAGE, RecordKind.COMMENT, RecordKind.POST)


class FakeCredentials(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    user: str = Field(min_length=1)
    password: str = Field(min_length=1, repr=False)


class Gap(BaseModel):
    """Places [older, newer) of the log that we don't have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    newer: int
    older: int

    def opened(self) -> OpenGap:
        return OpenGap(
            key=f"down to {self.older}",
            scope="",
            newer_end=str(self.newer),
            older_end=str(self.older),
            reason="the answer left these out",
        )


class Place(BaseModel):
    """The cursor: the platform's token, and the gaps below it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    since: str = ""
    floor: int | None = (
        None  # ms since 1970: nothing is read yet, and what was written before it is
    )
    gaps: tuple[Gap, ...] = ()

    @classmethod
    def parse(cls, cursor: str) -> Place:
        try:
            return cls.model_validate_json(cursor) if cursor else cls()
        except ValidationError as error:
            raise CursorInvalid(f"this is no cursor of the fake: {error}") from None

    def text(self) -> str:
        says = self.since or self.floor
        return self.model_dump_json(exclude_defaults=True) if says else ""

    @property
    def owed(self) -> int:
        return sum(gap.newer - gap.older for gap in self.gaps)


class Fake(Platform):
    name: ClassVar[str] = "fake"
    label: ClassVar[str] = "Fake"
    needs_endpoint: ClassVar[bool] = True
    credentials: ClassVar[type[BaseModel]] = FakeCredentials
    can_wait: ClassVar[bool] = True
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset(
        {RecordKind.CONVERSATION, RecordKind.POST, RecordKind.COMMENT}
    )
    lists_ids: ClassVar[bool] = True
    marks_read: ClassVar[bool] = True

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[FakeConnection]:
        async with httpx.AsyncClient(base_url=account.endpoint.rstrip("/")) as http:
            yield FakeConnection(self, account, http)

    def reread(self, account: AccountRef, kind: str, raw: str) -> Sequence[Record | Refused]:
        del account, kind
        return read_records([json.loads(raw)])


class FakeConnection(Connection):
    def __init__(self, platform: Fake, account: AccountRef, http: httpx.AsyncClient) -> None:
        self._platform, self._account, self._http = platform, account, http
        self.session: dict[str, object] = dict(account.session)

    async def login(self, tell: Tell) -> dict[str, object]:
        del tell
        try:
            self.session = await self._ask("POST", "/login", dict(self._account.credentials))
        except RequestRejected as error:
            raise LoginFailed(str(error)) from error
        return self.session

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        """As Matrix: news first, then a page of a gap, until nothing is owed; then wait."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        place = Place.parse(cursor)
        while True:
            is_waiting = bool(place.since) and not place.gaps
            left_s = max(0.0, deadline - clock()) if is_waiting else 0.0
            rows, after = await self._news(place, left_s)
            for batch in cut(rows, place, after):
                yield batch
            place = after
            if place.gaps:
                rows, after = await self._page(place)
                for batch in cut(rows, place, after):
                    yield batch
                place = after
            elif is_waiting and (rows or clock() >= deadline):
                return

    async def _news(self, place: Place, wait_s: float) -> tuple[Sequence[Row], Place]:
        after = place.since or (f"@{place.floor}" if place.floor else "")
        params = {"after": after, "wait": wait_s}
        answer = await self._ask("GET", "/changes", params=params, wait_s=wait_s)
        gap = answer["gap"]
        gaps = (Gap(newer=gap[0], older=gap[1]), *place.gaps) if gap else place.gaps
        return read_records(answer["records"]), Place(since=answer["next"], gaps=gaps)

    async def _page(self, place: Place) -> tuple[Sequence[Row], Place]:
        first, *rest = place.gaps
        params = {
            "incarnation": place.since.partition(".")[0],
            "newer": first.newer,
            "older": first.older,
        }
        answer = await self._ask("GET", "/history", params=params)
        if left := answer["gap"]:
            rest = [Gap(newer=left[0], older=left[1]), *rest]
        return read_records(answer["records"]), Place(since=place.since, gaps=tuple(rest))

    def cursor_after(self, known: LastKnown) -> str:
        """All of an account is in one log."""
        times = [at for at in (known.message_at, known.comment_at, known.post_at) if at]
        return Place(floor=_ms(max(times) - AHEAD)).text() if times else ""

    async def send(self, reply: OutgoingReply) -> str:
        body = {
            "thread": reply.conversation_id or reply.post_id,
            "parent": reply.parent_id,
            "text": reply.text,
            "key": reply.key,
            "once": self._platform.sends_once,
        }
        return str((await self._ask("POST", "/entries", body))["id"])

    async def find_sent(self, reply: OutgoingReply) -> str | None:
        found: str | None = (await self._ask("GET", "/sent", params={"key": reply.key}))["id"]
        return found

    async def list_ids(self, since: datetime, done: Done = NOTHING_DONE) -> AsyncIterator[Listing]:
        for kind in LISTED:
            before = done.get((kind, ""))
            until = before.since if before else max(datetime.now(UTC), since) + AHEAD
            while until > since:
                window = {"kind": kind.value, "since": _ms(since), "until": _ms(until)}
                answer = await self._ask("GET", "/ids", params=window)
                is_last = answer["since"] <= _ms(since)
                begin = since if is_last else _moment(answer["since"])
                ids = {id: _moment(edited).isoformat() for id, edited in answer["ids"].items()}
                yield Listing(kind, "", begin, until, ids)
                until = begin

    async def fetch(self, kind: RecordKind, scope: str, ids: Sequence[str]) -> AsyncIterator[Batch]:
        del scope
        for start in range(0, len(ids), FETCHED_AT_ONCE):
            some = list(ids[start : start + FETCHED_AT_ONCE])
            answer = await self._ask("POST", "/records", {"kind": kind.value, "ids": some})
            for piece in slices(read_records(answer["records"])):
                records, refused = sorted_out(piece)
                yield Batch(None, records, refused, fetched=True)

    async def mark_read(self, conversation_id: str, message_id: str, sent_at: datetime) -> None:
        await self._ask("POST", "/read", {"thread": conversation_id, "entry": message_id})

    async def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        params: dict[str, Any] | None = None,
        wait_s: float = 0,
    ) -> dict[str, Any]:
        if path != "/login" and not self.session:
            raise LoginExpired("not logged in")
        token = self.session.get("token")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with asyncio.timeout(TIMEOUT_S + wait_s):
                response = await self._http.request(
                    method, path, json=body, params=params, headers=headers, timeout=None
                )
        except TimeoutError:
            raise PlatformUnavailable(f"no answer to {path} in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PlatformUnavailable(f"can't reach the fake: {error!r}") from error
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        said = f"HTTP {response.status_code}: {response.text[:200]}"
        match response.status_code:
            case 401:
                raise LoginExpired(said)
            case 410:
                raise CursorInvalid(said)
            case 429:
                raise RateLimited(said, float(response.headers["retry-after"]))
            case status if status >= 500:
                raise PlatformUnavailable(said)
            case status:
                raise RequestRejected(said, status)


def cut(rows: Sequence[Row], before: Place, after: Place) -> list[Batch]:
    """The rows of one answer as batches; only the last one stands for having it."""
    pieces = list(slices(rows))
    last = len(pieces) - 1
    if pieces == [()] and before == after:
        return []
    batches = []
    left = len(rows) + after.owed
    for index, piece in enumerate(pieces):
        records, refused = sorted_out(piece)
        left -= len(piece)
        place = after if index == last else before
        batches.append(
            Batch(
                cursor=place.text(),
                records=records,
                refused=refused,
                more=index < last or bool(after.gaps),
                gaps=tuple(gap.opened() for gap in place.gaps),
                remaining=left,
            )
        )
    return batches


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
