"""One check of one account: log in if need be, run its errands, read what is new, wait for more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from django.utils import timezone

from sync import reading_on, services, store
from sync.engine.database import Database
from sync.engine.opening import CLOSE_S, Server
from sync.engine.problems import redacted
from sync.engine.tally import Tally
from sync.errands import AFTER_CATCHING_UP, BEFORE_LOGIN, BEFORE_READING, ERRANDS
from sync.errors import CursorInvalid, LoginExpired, LoginFailed, PlatformUnavailable
from sync.platforms.base import Connection, Platform
from sync.types import Batch, LoginState, LoginStep, OpenGap, Receipt, Work

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

ANSWER_S = 60.0  # for one answer of a platform, beyond the time that a wait may take
WAIT_S = 60.0  # for news; then the platform is asked anew, which proves that it is still there
SHORTEST_WAIT_S = 1.0
GATHER_S = 0.1
# A cursor that moved though nothing came is written this often: reading again from an older one
# brings nothing twice, but platforms forget cursors that are very old.
BARE_CURSOR_S = 300.0


class AccountCheck:
    """One check under way; see `sync.errands.Check` for what its errands may use.

    All that the connection does happens in one asyncio task, so that its timeouts and cancel scopes
    nest as they were written; and the next batch is asked for when the last is committed.
    """

    def __init__(
        self,
        run: services.Run,
        platform: Platform,
        connection: Connection,
        database: Database,
        server: Server,
        tally: Tally,
    ) -> None:
        self.run, self.platform, self.connection = run, platform, connection
        self._database, self.server, self._tally = database, server, tally
        self._key = (run.ref.platform, run.worker_id)
        self._cursor, self._sequence = run.cursor, run.sequence
        self._cursor_kept_at = time.monotonic()
        # What the last stored batch said of them.
        self._backlog: int | None = run.backlog
        self._gaps: tuple[OpenGap, ...] | None = None
        self._work: set[Work] = set(run.work)
        self._is_logged_in, self._may_log_in = bool(run.ref.session), True
        self._has_started_over, self._has_notice = False, run.has_notice
        self._is_waiting = False
        self._patience = asyncio.timeout(None)
        self.brought_news = False
        self.synced_at: datetime | None = None  # when the platform last said that this is all

    async def perform(self) -> None:
        """Until all is read, or, where the adapter can wait, for ever. Raises `SyncError`s.

        Where the platform is not to be asked, only what it has pushed is read.
        """
        if self.run.must_not_ask:
            for work in BEFORE_LOGIN:
                await self._errand(work)
            return
        while True:
            try:
                await self._catch_up()
                if not self.platform.can_wait:
                    return
                await self._wait()
            except LoginExpired:
                if not self._may_log_in:  # no proof that the credentials are wrong: it backs off
                    raise LoginExpired("the platform ended a new session at once") from None
                await self.in_database(services.record_login, self.run.lease, LoginState.EXPIRED)
                self._is_logged_in = False
            except CursorInvalid as invalid:
                if not self._cursor:
                    raise
                await self._start_over(invalid)

    def poke(self, work: frozenset[Work]) -> None:
        """There is work to do now: a wait for news ends."""
        self._work |= work
        if work and self._is_waiting:
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def store(self, batch: Batch, within: Callable[[Receipt], None] | None = None) -> Receipt:
        """See `sync.errands.Check.store`."""
        receipt = await self._database(
            store.ingest_batch, self.run.lease, self._sequence, batch, self.run.worker_id, within
        )
        self._sequence, self._backlog = receipt.sequence, batch.remaining
        self._tally.stored(self._key, receipt)
        if batch.cursor is not None:
            self._cursor, self._cursor_kept_at = batch.cursor, time.monotonic()
        if receipt.new or receipt.changed:
            self.brought_news = True
        if receipt.new or receipt.changed or receipt.refused:
            log.info(
                "stored batch %s: %s new, %s changed, %s same, %s refused",
                *(receipt.sequence, receipt.new, receipt.changed, receipt.same, receipt.refused),
                extra=self._about,
            )
        return receipt

    async def in_database(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `sync.errands.Check.in_database`."""
        return await self._database(function, *args, **kwargs)

    async def _catch_up(self) -> None:
        """All that waits: what was pushed, a login, errands, what is new, errands."""
        for work in BEFORE_LOGIN:
            await self._errand(work)
        if Work.LOGINS in self._work and Work.LOGINS in ERRANDS:
            await self._errand(Work.LOGINS)
            self._is_logged_in = bool(self.connection.session)
        if not self._is_logged_in:
            await self._log_in()
        for work in BEFORE_READING:
            await self._errand(work)
        await self._read(0.0)
        await self._caught_up()
        for work in AFTER_CATCHING_UP:
            await self._errand(work)
        self._work.clear()  # what has no errand can't be done, and is asked for again

    async def _errand(self, work: Work) -> None:
        if work in self._work and work in ERRANDS:
            await ERRANDS[work](self)
            self._work.discard(work)

    async def _wait(self) -> None:
        """Store news as they come, until there is other work.

        A platform that answers at once that there is nothing is asked once a second; one that has
        news all the time ten times a second: each answer is work for it, and a transaction for us.
        """
        while not self._work:
            begun, sequence = time.monotonic(), self._sequence
            if await self._read(WAIT_S):
                self.synced_at = timezone.now()
            least_s = SHORTEST_WAIT_S if sequence == self._sequence else GATHER_S
            await asyncio.sleep(max(0.0, begun + least_s - time.monotonic()))

    async def _caught_up(self) -> None:
        """What is waited on tells so now; any other check tells it when it ends."""
        first, self.synced_at = self.synced_at is None, timezone.now()
        if first and self.platform.can_wait:
            await self.in_database(
                services.caught_up,
                self.run.lease,
                self.synced_at,
                self.synced_at + timedelta(seconds=self.run.pace.interval_s),
                had_failed=self.run.has_failed,
            )
        if self._has_notice:
            self._has_notice = False
            await self.in_database(services.note_over, self.run.lease)

    async def _read(self, wait_s: float) -> bool:
        """One read of the connection; each batch is committed before the next is asked for.
        Whether it came to its own end.

        Only the first answer may be waited for: all others take one of the server's places.
        """
        batches = aiter(self.connection.read(self._cursor, wait_s))
        is_first = True
        try:
            while (batch := await self._next(batches, wait_s if is_first else 0.0)) is not None:
                self._may_log_in, is_first = True, False
                await self._keep(batch, is_waiting=wait_s > 0)
        finally:
            if hasattr(batches, "aclose"):
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_S):
                        await batches.aclose()
        if self._work and wait_s:
            return False
        self._may_log_in = True
        self._tally.synced(self._key, timezone.now())
        await self._answered()
        return True

    async def _answered(self) -> None:
        """The server works: that is news where it had failed."""
        if self.server.is_troubled:
            self.server.is_troubled = False
            await self.in_database(services.server_answered, self.run.ref)

    async def _next(self, batches: AsyncIterator[Batch], wait_s: float) -> Batch | None:
        """The next batch; None when there is none, or when other work ended the wait."""
        limit_s = wait_s + ANSWER_S
        async with nullcontext() if wait_s else self.server.place:
            self._patience = patience = asyncio.timeout(limit_s)
            self._is_waiting = wait_s > 0
            try:
                async with patience:
                    return await anext(batches, None)
            except TimeoutError:
                if not patience.expired():  # the adapter's own
                    raise PlatformUnavailable("the platform did not answer in time") from None
                if self._is_waiting and self._work:
                    return None
                raise PlatformUnavailable(f"no answer within {limit_s:.0f} s") from None
            finally:
                self._is_waiting = False

    async def _keep(self, batch: Batch, *, is_waiting: bool) -> None:
        """Store a batch that was read, unless it says nothing, or only where to go on reading."""
        says_more = batch.records or batch.refused or batch.remaining != self._backlog
        if not says_more and batch.gaps in (None, self._gaps):
            keeps_for_later = time.monotonic() < self._cursor_kept_at + BARE_CURSOR_S
            if batch.cursor in (None, self._cursor) or (is_waiting and keeps_for_later):
                self._cursor = self._cursor if batch.cursor is None else batch.cursor
                await asyncio.sleep(0)  # an adapter with nothing to say must not hold the loop
                return
        await self.store(batch)
        self._gaps = self._gaps if batch.gaps is None else batch.gaps

    async def _start_over(self, invalid: CursorInvalid) -> None:
        """From what we know, where the adapter can; if that fails, too, or it can't, all that the
        platform has. What is there already counts as same."""
        lease, known = self.run.lease, None
        gaps: tuple[OpenGap, ...] = ()
        if not self._has_started_over:
            known = await self.in_database(reading_on.last_known, lease.account_id)
            gaps = await self.in_database(reading_on.unfilled_gaps, lease.account_id)
        self._has_started_over = True
        cursor = self.connection.cursor_after(known) if known else ""
        sentence = reading_on.FROM_KNOWN if cursor else reading_on.FROM_START
        if gaps:  # then nothing is known
            cursor = self.connection.cursor_keeping(gaps)
        log.warning(sentence, extra=self._about)
        said = redacted(f"{sentence} ({invalid})", self.run.ref)
        await self.in_database(services.start_over, lease, cursor, said, timezone.now())
        self._cursor, self._has_notice = cursor, True

    async def _log_in(self) -> None:
        """A login that nobody watches. Raises `LoginFailed` also where it takes a person; one that
        was given consent before may do without."""
        if self.platform.asks_person and not self.connection.session:
            await _tell_nobody()
        self._may_log_in = False
        await self.in_database(services.record_login, self.run.lease, LoginState.PENDING)
        session = await self._answer(self.connection.login(_tell_nobody))
        await self.in_database(services.record_login, self.run.lease, LoginState.SUCCESS, session)
        self._is_logged_in = True
        await self._answered()
        log.info("logged in", extra=self._about)

    async def _answer(self, asked: Any) -> Any:
        async with self.server.place:
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await asked
            except TimeoutError:
                raise PlatformUnavailable("the platform did not answer in time") from None

    @property
    def _about(self) -> dict[str, Any]:
        lease = self.run.lease
        return {
            "account_id": lease.account_id,
            "epoch": lease.epoch,
            "worker_id": self.run.worker_id,
        }


async def _tell_nobody(_step: LoginStep | None = None) -> None:
    """Nobody is there to be told: the login has to do without, or fails."""
    raise LoginFailed("This platform's login takes a person: ask for a login.")
