"""What a platform adapter is [S1]. Adding a platform means adding one folder beside this file.

The folder's `__init__.py` names its adapter as `platform`; `sync.platforms.registry` finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import BaseModel

from sync.types import (
    NOTHING_DONE,
    AccountRef,
    Batch,
    Done,
    LastKnown,
    Listing,
    LoginStep,
    OpenGap,
    OutgoingReply,
    Record,
    RecordKind,
    Refused,
)

# Tells the people who asked for a login how it goes, and returns what they have answered so far
# (for OAuth `{"code": …, "state": …}`), None while that is nothing. Raises `LoginCancelled` when
# they gave it up or the time is over. May be called again and again with the same step.
Tell = Callable[[LoginStep], Awaitable[Mapping[str, object] | None]]


class Connection(ABC):
    """One account's open connection to its platform; owned by an `async with`.

    Every method is safe to cancel at any await. All raise `PlatformUnavailable` and `RateLimited`,
    and those that need a session `LoginExpired`.
    """

    session: dict[str, object]  # what the platform gave at login (tokens); stored encrypted

    @abstractmethod
    async def login(self, tell: Tell) -> dict[str, object]:
        """Log in with the account's credentials and return the new session.

        `tell` shows a person what is to be done, where something is. Raises `LoginFailed` (wrong
        credentials, or the credentials of somebody else), `LoginCancelled`.
        """

    @abstractmethod
    def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        """The changes since `cursor` ("" for the first, full read), in bounded batches.

        Each batch carries the cursor that stands for having it and all before it. Once nothing is
        left, an adapter with `can_wait` waits up to `wait_s` seconds for news; the iterator ends
        when it caught up and (if it can wait) the wait is over, or as soon as waiting brought news.
        The first read and any read after an invalid cursor begins at the newest end where the
        platform allows it. Raises `CursorInvalid`.
        """

    def cursor_after(self, known: LastKnown) -> str:
        """Where to read on when the platform no longer knows our cursor: a cursor that stands for
        having what is known, less a margin for clocks that are apart. What is read twice counts as
        same; what comes with a time from before the margin is left to audits.

        "": all that the platform still has is to be read."""
        del known
        return ""

    def cursor_keeping(self, gaps: Sequence[OpenGap]) -> str:
        """Where to read from when the platform no longer knows our cursor, and what is stored does
        not tell where to read on. `gaps` are open: what stood for them was lost with the cursor.

        "": the start, from where they are filled or found again. Another one where the platform
        keeps no history: a cursor for all that it still has, which does not forget them."""
        del gaps
        return ""

    async def send(self, reply: OutgoingReply) -> str:
        """Send a reply and return the platform's id of it.

        Sent twice with one `key` it appears once if the platform has `sends_once`. Any error other
        than `RequestRejected` leaves open whether it was sent: `find_sent` tells. Raises
        `RequestRejected` when the platform refuses it for good.
        """
        raise NotImplementedError

    async def find_sent(self, reply: OutgoingReply) -> str | None:
        """The platform's id of a reply that may have been sent, None when it was not. Where it can
        be told by its text alone, one of `taken_ids` is another reply.

        Asked before a reply is sent again where the platform lacks `sends_once`.
        """
        raise NotImplementedError

    def list_ids(self, since: datetime, done: Done = NOTHING_DONE) -> AsyncIterator[Listing | None]:
        """What the platform holds since then, window by window, the newest first [S9]. None: the
        platform answered, and a window takes more answers; there may be any number of them.

        `done` is what an earlier listing told, before it was cut: an adapter goes on below it where
        it can. What it tells again is left out.
        """
        raise NotImplementedError

    def fetch(self, kind: RecordKind, scope: str, ids: Sequence[str]) -> AsyncIterator[Batch]:
        """Records by their ids as they are now, in batches without a cursor; those that are gone
        are left out. An empty batch is an answer that brought none of them."""
        raise NotImplementedError

    async def mark_read(self, conversation_id: str, message_id: str, sent_at: datetime) -> None:
        """Tell the platform that a conversation was read up to a message (external ids), which was
        sent then and may be gone there by now."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A webhook request as it came, or a handshake (GET)."""

    method: str
    headers: Mapping[str, str]  # names in lower case
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a signed webhook request is, before anybody reads what it holds."""

    delivery_id: str  # the same for a repeat of it
    order_key: str = ""  # deliveries with one key are processed in order of arrival
    number: int | None = None  # the platform's running number, if it has one: a jump is a gap
    recipient: str = ""  # the identifier of the account it is for, if it says so


class Hooks(ABC):
    """How a platform pushes to us [S13]. Pure: no request is made, `now` is given."""

    kept_headers: ClassVar[frozenset[str]] = frozenset()  # stored with a delivery; lower case
    is_numbered: ClassVar[bool] = False  # deliveries carry a running number
    # Numbers start anywhere after a silence of this length; None: they never do.
    numbers_restart_after: ClassVar[timedelta | None] = None

    @abstractmethod
    def setup(self, account: AccountRef, url: str) -> Sequence[tuple[str, str]]:
        """What a person enters at the platform: (where, what). Secrets are named, not shown."""

    @abstractmethod
    def answer(self, account: AccountRef, request: HookRequest) -> bytes | None:
        """The body to answer a handshake with, None when the request is none.

        Raises `BadSignature` when a handshake's token is wrong.
        """

    @abstractmethod
    def check(self, account: AccountRef, request: HookRequest, now: datetime) -> Delivery:
        """Who sent it and what it is called. Raises `BadSignature` (also for one too old),
        `Malformed` when it is signed, but not what the platform's documents say."""

    @abstractmethod
    def read(
        self, account: AccountRef, headers: Mapping[str, str], body: bytes
    ) -> Sequence[Record | Refused]:
        """The records of a stored delivery. Total: what can't be read is `Refused`."""


class Platform(ABC):
    """An adapter: how to connect, what its accounts need, and what the platform can do."""

    name: ClassVar[str]  # in URLs, rows and metrics: lower case, no spaces
    label: ClassVar[str]  # for people
    sentences: ClassVar[tuple[str, ...]] = ()  # its own, in what is stored; see `sync.sentences`
    needs_endpoint: ClassVar[bool]  # each account names its server's address
    default_endpoint: ClassVar[str] = ""  # where accounts live that name none; else ""
    endpoint_schemes: ClassVar[tuple[str, ...]] = ("https", "http")
    credentials: ClassVar[type[BaseModel]]  # the shape of `Account.credentials`

    can_wait: ClassVar[bool] = False  # `read` can wait for news (long poll, push)
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset()  # CONVERSATION, POST, COMMENT
    longest_reply: ClassVar[int] = 10_000  # characters
    sends_once: ClassVar[bool] = False  # `send` is idempotent by its key
    lists_ids: ClassVar[bool] = False  # `list_ids` and `fetch` work
    marks_read: ClassVar[bool] = False
    asks_person: ClassVar[bool] = False  # `login` needs somebody (QR image, OAuth)
    hooks: ClassVar[Hooks | None] = None

    @abstractmethod
    def connect(self, account: AccountRef) -> AbstractAsyncContextManager[Connection]:
        """Open a connection; no request is made before the first call on it."""

    def reread(self, account: AccountRef, kind: str, raw: str) -> Sequence[Record | Refused]:
        """The records of a dead letter of shape `PLATFORM`, read again by today's code [S6]."""
        del account
        return [Refused(kind, "", raw, "this platform's raw records can't be read again by hand")]
