"""What an errand is: work for one account that its check does beside reading.

All work of an account is done by its check, one at a time, under one lease and on one connection.
Whoever queues work (a reply, a delivery, a login, an audit) sets `next_due_at = now` and calls
`services.notify(account_id)` in the same transaction: the account is claimed anew, and the new
check does the work at once. What comes due by itself (an audit, another attempt at a reply) is seen
within 30 s by the renewal of leases.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeVar

from sync.platforms.base import Connection, Platform
from sync.services import Run
from sync.types import Batch, Receipt

P = ParamSpec("P")
T = TypeVar("T")


class Check(Protocol):
    """A check under way, as its errands see it. Lives on the engine's loop."""

    @property
    def run(self) -> Run:
        """Lease, `AccountRef`, worker."""

    @property
    def platform(self) -> Platform: ...

    @property
    def connection(self) -> Connection:
        """Open; logged in, except for the errands `deliveries` and `logins`."""

    async def store(self, batch: Batch, within: Callable[[Receipt], None] | None = None) -> Receipt:
        """Merge and commit a batch, fenced; `within` runs in the same transaction.

        Raises `StaleEpoch`, `CursorMoved`, `CountsDisagree`; these end the check: let them pass.
        """

    async def in_database(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that uses the database, in one of the engine's few database threads.

        Once begun it is not cancelled. Hold no transaction across two calls.
        """


# An errand does all that waits and returns. The failure of one item is a state of that item;
# `PlatformUnavailable`, `RateLimited`, `LoginExpired`, `LoginFailed` and what `store` raises end
# the check: they propagate. It may be cancelled at any await; the next check begins it anew.
Errand = Callable[[Check], Awaitable[None]]
