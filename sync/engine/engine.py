"""The accounts that this process watches: a coroutine for each, on one asyncio loop [S2].

A wait costs a coroutine and a connection to the platform, and neither a thread nor a connection to
the database. One statement for all renews their leases; an account whose lease is lost is let go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.db import Error as DatabaseError
from django.utils import timezone

from sync import platforms, schedule, services
from sync.chance import random
from sync.engine.check import AccountCheck
from sync.engine.database import Database
from sync.engine.opening import CLOSE_S, Server, Servers, opened
from sync.engine.problems import problem
from sync.engine.tally import Key, Tally
from sync.errands import ERRANDS
from sync.errors import (
    CursorMoved,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    StaleEpoch,
    SyncError,
)
from sync.types import Lease

log = logging.getLogger(__name__)

RENEW_S = 30.0
RENEW_AGAIN_S = 1.0  # for rows that something else had locked just then
RENEW_AFTER_FAILURE_S = 2.0
TURN_S = 1.0


UNKNOWN = ("unknown", "unknown")  # platform and worker of a check that was stale when it began


@dataclass(slots=True, eq=False)
class Watched:
    """An account that this process has taken over."""

    lease: Lease
    task: asyncio.Task[None] | None = None
    check: AccountCheck | None = None
    renewed_at: float = 0.0  # monotonic
    key: Key = UNKNOWN


class Engine:
    """Lives on its loop: all of its methods are called there, but for `silent_s`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watched: dict[int, Watched] = {}  # the newest check of each account
        self._servers = Servers()
        self._tally = Tally()
        self._stopping = False
        self._releasing: set[asyncio.Task[None]] = set()
        self._is_database_away = False
        self._failed = asyncio.Event()  # since the last renewal began
        self._left: dict[int, Lease] = {}  # claims of checks that ended by that, by account
        self._turned_at = time.monotonic()

    def __len__(self) -> int:
        return len(self._watched)

    @property
    def silent_s(self) -> float:
        """For how long the loop has not turned; from any thread."""
        return time.monotonic() - self._turned_at

    def take(self, lease: Lease) -> None:
        """Check an account from now on. A newer check of it ends the older one; a doubled or late
        message finds a check that is as new, and is nothing."""
        if self._stopping:
            self._give_back(lease)
            return
        older = self._watched.get(lease.account_id)
        if older is not None and older.lease.epoch >= lease.epoch:
            return
        watched = self._watched[lease.account_id] = Watched(lease)
        watched.task = asyncio.create_task(
            self._watch(watched, older), name=f"account-{lease.account_id}"
        )

    async def live(self) -> None:
        """Renew the leases, for ever."""
        wait_s = RENEW_S
        while True:
            await self._until_renewal(wait_s)
            try:
                await self._give_back_left()
                wait_s = RENEW_AGAIN_S if await self.renew() else RENEW_S
                await self.write_totals()
                self._database_answers()
            except DatabaseError as error:
                self._database_fails("leases can't be renewed", error)
            except Exception:
                log.exception("leases were not renewed, trying again")
                wait_s = RENEW_AFTER_FAILURE_S

    async def turn(self) -> None:
        """Show that the loop turns, for ever."""
        while True:
            self._turned_at = time.monotonic()
            await asyncio.sleep(TURN_S)

    async def renew(self) -> bool:
        """Renew what was not renewed just now; whether rows were locked, so that it is tried again.

        An account that somebody else holds by now is let go; work that came due is told.
        """
        since = time.monotonic() - RENEW_S / 2
        held = [
            (one, one.check)
            for one in self._watched.values()
            if one.check is not None and one.renewed_at < since
        ]
        begun = time.monotonic()
        leases = [services.Held(one.lease, check.synced_at) for one, check in held]
        told = await self._database(services.renew, leases, timezone.now())
        locked = False
        for one, check in held:
            said = told.get(one.lease.account_id)
            if said is None:
                self._lose(one)
                continue
            locked = locked or said.is_locked
            if not said.is_locked:
                one.renewed_at = begun
            check.server.is_troubled = check.server.is_troubled or said.is_server_troubled
            check.poke(said.work & ERRANDS.keys())
        return locked

    async def write_totals(self) -> None:
        """Add what was counted to the totals. Raises `DatabaseError`; then it is added later."""
        totals = self._tally.taken()
        try:
            await self._database(services.add_totals, totals)
        except DatabaseError:
            self._tally.back(totals)
            raise

    async def stop(self) -> None:
        """End all checks and give their claims back, so that others take them over at once."""
        self._stopping = True
        tasks = [one.task for one in self._watched.values() if one.task]
        leases = [*(one.lease for one in self._watched.values()), *self._left.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S / 2)
        await self._release(leases)
        with suppress(DatabaseError):
            await self.write_totals()
        if self._releasing:
            await asyncio.wait(self._releasing)

    # --- one account ----------------------------------------------------------------------------

    async def _watch(self, watched: Watched, older: Watched | None) -> None:
        """The whole life of one check. Never raises but for its own cancelling."""
        try:
            if older is not None:
                await _ended(older)
            await self._check(watched)
        except Exception:
            log.exception("the check of account %s broke", watched.lease.account_id)
        finally:
            if self._watched.get(watched.lease.account_id) is watched:
                del self._watched[watched.lease.account_id]

    async def _check(self, watched: Watched) -> None:
        lease = watched.lease
        about = {"account_id": lease.account_id, "epoch": lease.epoch}
        try:
            run = await self._database(services.begin_run, lease, timezone.now())
            self._database_answers()
            watched.key = (run.ref.platform, run.worker_id)
            await self._run(watched, run)
        except StaleEpoch as stale:
            log.info("left: the account was given to a newer check (%s)", stale, extra=about)
            self._tally.add(watched.key, stale=1)
        except DatabaseError as error:
            # Given back once the database answers; until then the claim's lease runs on.
            self._left[lease.account_id] = lease
            self._database_fails(f"the check of account {lease.account_id} ended", error, about)

    async def _run(self, watched: Watched, run: services.Run) -> None:
        """One check and what became of it. Raises `StaleEpoch`, `DatabaseError`."""
        about = {"account_id": run.lease.account_id, "worker_id": run.worker_id}
        server = self._servers.at(run.ref)
        server.is_troubled = server.is_troubled or run.is_server_troubled
        try:
            check = await self._perform(watched, run, server)
        except StaleEpoch:
            raise
        except CursorMoved as ended:
            log.info("ended early: %s", ended, extra=about)
            await self._database(services.give_back, [run.lease], timezone.now())
        except SyncError as error:
            found = problem(error, run.ref)
            log.warning("check failed: %s", found.error, extra=about)
            await self._fail(run, found)
            await self._judge(server, run, error, found.error)
        except DatabaseError as error:
            self._database_fails("check failed in the database", error, about)
            await self._fail(run, services.Problem(f"database: {type(error).__name__}"))
        except Exception as error:  # an adapter's mistake must not reach the other accounts
            log.exception("check failed unexpectedly", extra=about)
            text = f"unexpected {type(error).__name__}; see the worker's log"
            await self._fail(run, services.Problem(text))
        else:
            if run.must_not_ask:  # else it stays due: for a person, or for when its server is asked
                at = run.asks_at or timezone.now()
                await self._database(services.give_back, [run.lease], at)
                return
            now = timezone.now()
            interval_s = schedule.next_interval_s(run.pace, brought_news=check.brought_news)
            decision = schedule.after_success(now, interval_s, random())
            await self._database(
                services.finish_run,
                run.lease,
                decision,
                now,
                check.synced_at,
                interval_s,
                had_failed=run.has_failed,
            )

    async def _perform(self, watched: Watched, run: services.Run, server: Server) -> AccountCheck:
        platform = platforms.get(run.ref.platform)
        async with opened(platform, run.ref) as connection:
            check = AccountCheck(run, platform, connection, self._database, server, self._tally)
            watched.check = check
            watched.renewed_at = time.monotonic()
            await check.perform()
        return check

    async def _fail(self, run: services.Run, found: services.Problem) -> None:
        self._tally.add((run.ref.platform, run.worker_id), errors=1)
        await self._database(
            services.record_failure, run.lease, found, timezone.now(), random(), run.worker_id
        )

    async def _judge(self, server: Server, run: services.Run, error: SyncError, text: str) -> None:
        """Tell the server's breaker whether it works: a refusal is an answer, too."""
        match error:
            case RateLimited():
                retry_after_s: float | None = error.retry_after_s
            case PlatformUnavailable():
                retry_after_s = None
            case PlatformError() if server.is_troubled:
                server.is_troubled = False
                await self._database(services.server_answered, run.ref)
                return
            case _:
                return
        server.is_troubled = True
        await self._database(
            services.server_failed, run.ref, text, timezone.now(), random(), retry_after_s
        )

    def _lose(self, watched: Watched) -> None:
        if self._watched.get(watched.lease.account_id) is watched and watched.task:
            log.info("account %s is somebody else's now, leaving", watched.lease.account_id)
            watched.task.cancel()

    # --- the database ---------------------------------------------------------------------------

    def _give_back(self, lease: Lease) -> None:
        task = asyncio.create_task(self._release([lease]))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _release(self, leases: list[Lease]) -> None:
        try:
            if leases:
                await self._database(services.give_back, leases, timezone.now())
        except DatabaseError as error:
            self._database_fails("claims could not be given back", error)

    async def _until_renewal(self, wait_s: float) -> None:
        """Sooner when the database has failed, or fails meanwhile."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._failed.wait(), wait_s)
            await asyncio.sleep(RENEW_AFTER_FAILURE_S)
        self._failed.clear()

    async def _give_back_left(self) -> None:
        """Make due at once what ended because the database was away. Raises `DatabaseError`."""
        left = list(self._left.values())
        if left:
            await self._database(services.give_back, left, timezone.now())
        for lease in left:
            if self._left[lease.account_id] is lease:
                del self._left[lease.account_id]

    def _database_fails(
        self, what: str, error: DatabaseError, about: dict[str, Any] | None = None
    ) -> None:
        """Said once for each outage."""
        if not self._is_database_away:
            log.warning("%s: %s: %s", what, type(error).__name__, error, extra=about)
        self._is_database_away = True
        self._failed.set()

    def _database_answers(self) -> None:
        if self._is_database_away:
            log.info("the database answers again")
        self._is_database_away = False


async def _ended(older: Watched) -> None:
    """End an older check of the same account, so that no two talk to the platform at once."""
    if older.task is None:
        return
    older.task.cancel()
    _done, pending = await asyncio.wait({older.task}, timeout=CLOSE_S)
    if pending:
        log.warning(
            "a check of account %s does not end within %.0f s; going on without it",
            *(older.lease.account_id, CLOSE_S),
        )
