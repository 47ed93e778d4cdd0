"""Counting webhook requests: in memory, and once a second into the accounts' rows."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from django.db import Error as DatabaseError
from django.db import close_old_connections

from sync.hooks.take import Outcome, Taken
from sync.services import deliveries
from sync.services.deliveries import Tally

log = logging.getLogger(__name__)

WRITE_EVERY_S = 1.0
RETRY_EVERY_S = 5.0
MOST_ACCOUNTS = 10_000  # waiting to be written; the database is away for long, then

COLUMNS = frozenset(Outcome) - {Outcome.ANSWERED}


class Counter:
    """What came for accounts since it was last written. Used on one loop alone."""

    def __init__(self) -> None:
        self._tallies: dict[int, Tally] = {}
        self._writing: asyncio.Task[None] | None = None

    def add(self, taken: Taken, now: datetime) -> None:
        if taken.account_id is None or taken.outcome not in COLUMNS:
            return
        if taken.account_id not in self._tallies and len(self._tallies) >= MOST_ACCOUNTS:
            return
        _note(self._tallies.setdefault(taken.account_id, Tally()), taken, now)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_later())

    async def _write_later(self) -> None:
        """Ends when there is nothing left to write; `add` begins it again."""
        pause_s = WRITE_EVERY_S
        while self._tallies:
            await asyncio.sleep(pause_s)
            tallies, self._tallies = self._tallies, {}
            _tell(tallies)
            try:
                await asyncio.to_thread(_write, tallies)
                pause_s = WRITE_EVERY_S
            except DatabaseError as error:
                if pause_s != RETRY_EVERY_S:  # once for each outage
                    log.warning("webhook counters could not be written: %s", error)
                self._put_back(tallies)
                pause_s = RETRY_EVERY_S

    def _put_back(self, tallies: dict[int, Tally]) -> None:
        for account_id, earlier in tallies.items():
            later = self._tallies.get(account_id)
            self._tallies[account_id] = earlier if later is None else _joined(earlier, later)


def _note(tally: Tally, taken: Taken, now: datetime) -> None:
    name = taken.outcome.value
    tally.counts[name] = tally.counts.get(name, 0) + 1
    if taken.outcome is Outcome.REJECTED:
        tally.rejection, tally.rejected_at = taken.error, now
    if taken.outcome is Outcome.MISSED:
        tally.missed_since, tally.missed_until = tally.missed_since or now, now


def _joined(earlier: Tally, later: Tally) -> Tally:
    names = earlier.counts.keys() | later.counts.keys()
    return Tally(
        counts={n: earlier.counts.get(n, 0) + later.counts.get(n, 0) for n in names},
        rejection=later.rejection or earlier.rejection,
        rejected_at=later.rejected_at or earlier.rejected_at,
        missed_since=earlier.missed_since or later.missed_since,
        missed_until=later.missed_until or earlier.missed_until,
    )


def _write(tallies: dict[int, Tally]) -> None:
    try:
        deliveries.count(tallies)
    finally:
        close_old_connections()


def _tell(tallies: dict[int, Tally]) -> None:
    """One line for each account and second, however many requests were turned away."""
    for account_id, tally in tallies.items():
        refused = {k: n for k, n in tally.counts.items() if k not in ("accepted", "repeated")}
        if refused:
            log.warning(
                "webhook requests turned away: %s",
                ", ".join(f"{n} {name}" for name, n in sorted(refused.items())),
                extra={"account_id": account_id, "reason": tally.rejection},
            )
