"""What a platform adapter is [S1]. Adding a platform means adding one folder beside this file.

The folder's `__init__.py` names its adapter as `platform`; `sync.platforms.registry` finds it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Protocol

from pydantic import BaseModel

from sync.types import AccountRef, Batch


class Connection(Protocol):
    """One account's open connection to its platform; owned by an `async with`."""

    session: dict[str, object]  # what the platform gave at login (tokens); stored encrypted

    async def login(self) -> dict[str, object]:
        """Log in with the account's credentials and return the new session.

        Raises `LoginFailed` (wrong credentials), `PlatformUnavailable`, `RateLimited`.
        """

    def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        """The changes since `cursor` ("" for the first, full read), in bounded batches.

        Each batch carries the cursor that stands for having it and all before it. Once nothing is
        left, an adapter with `can_wait` waits up to `wait_s` seconds for news; the iterator ends
        when it caught up and (if it can wait) the wait is over, or as soon as waiting brought news.
        It must be safe to cancel at any await.

        Raises `LoginExpired`, `CursorInvalid`, `RateLimited`, `PlatformUnavailable`.
        """

    async def send(self, conversation_id: str, text: str, key: str) -> str:
        """Send a reply into a conversation and return the platform's message id.

        `key` makes it idempotent: sent twice with one key, it appears once.
        """


class Platform(Protocol):
    """An adapter: how to connect, and what its accounts need."""

    name: ClassVar[str]  # in URLs, rows and metrics: lower case, no spaces
    label: ClassVar[str]  # for people
    can_wait: ClassVar[bool]  # `read` can wait for news (long poll, push)
    needs_endpoint: ClassVar[bool]  # each account names its server's http(s) address
    credentials: ClassVar[type[BaseModel]]  # the shape of `Account.credentials`

    def connect(self, account: AccountRef) -> AbstractAsyncContextManager[Connection]:
        """Open a connection; no request is made before the first call on it."""
