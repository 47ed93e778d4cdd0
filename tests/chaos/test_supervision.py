"""[L5-L12] Whatever is killed, frozen or filled up, the fleet is as people wish within 30 seconds,
and nothing was lost, doubled or left behind.

`make test` runs two minutes of it, `make chaos` an hour (MUSTER_CHAOS_MINUTES). The seed is
printed; MUSTER_CHAOS_SEED brings the same rounds again, MUSTER_CHAOS_ROUND begins with that one.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from lifecycle.types import State
from tests.chaos import invariants, sight
from tests.chaos.faults import Fault, Freeze, Kill, KillTogether, Timed, Wish, plan
from tests.chaos.fleet import WORKERS
from tests.chaos.world import World, world

pytestmark = pytest.mark.e2e

MINUTES = float(os.environ.get("MUSTER_CHAOS_MINUTES") or 1.5)
# The short form of `make test` has the same rounds each time; the long one always others.
SHORT_SEED, SHORT_MINUTES = 14, 5
CHANCE = secrets.randbelow(10**6) if MINUTES > SHORT_MINUTES else SHORT_SEED
SEED = int(os.environ.get("MUSTER_CHAOS_SEED") or CHANCE)
SETTLE_S = 30.0
POLL_S = 0.2
# `up` restarts a part at once after a run of this length, else it backs off: not what is tested.
STABLE_S = 10.0
# A main process that is frozen for longer may miss its heartbeats, and is replaced then.
MISSED_S = 15.0


def say(text: str) -> None:
    """Seen with `-s` as it happens, else with a failure; also in MUSTER_CHAOS_JOURNAL."""
    line = f"{time.strftime('%H:%M:%S')} {text}"
    print(line, flush=True)
    if journal := os.environ.get("MUSTER_CHAOS_JOURNAL"):
        with Path(journal).open("a") as file:
            file.write(f"{line}\n")


class Chaos:
    """Rounds of faults against one world, and what must hold after each."""

    def __init__(self, there: World) -> None:
        self.there = there
        self.violations: list[str] = []
        self.last_log_row = 0
        self.states: dict[str, str] = {}
        self.slowest_s = 0.0
        self.overdue = 0

    def round(self, number: int) -> None:
        faults = plan(SEED, number)
        self._wait_for_stable_parts(faults)
        before = self._rows()
        say(f"round {number}: " + "; ".join(f"{one.at_s} {one.fault}" for one in faults))
        self.there.work.flow()
        self._carry_out(faults)
        self.there.wait_for_clicks()
        self.there.work.stop()
        settled_s, left = self.settle(all_tasks=keeps_tasks(faults))
        self.slowest_s = max(self.slowest_s, settled_s)
        rows = self._log_rows()
        self.last_log_row = rows[-1].id if rows else self.last_log_row
        found = left + self.there.line_violations()
        found += invariants.illegal(rows, self.states) + invariants.exits_unknown(rows)
        found = excuse_unseen(found, faults)
        found += invariants.disturbed(before, self._rows(), touched(faults))
        overdue = invariants.overdue(rows)
        self.overdue += len(overdue)
        if keeps_tasks(faults) and not overdue:
            found += self.there.work.twice()
        self.there.work.forgive()  # what this round has lost is said, or is no wonder
        for what in found:
            say(f"VIOLATION in round {number}: {what}")
        for row in rows if found else overdue:
            say(f"  {row.worker_id} {row.event} {row.before} -> {row.after}: {row.message}")
        self.violations += [f"round {number}: {what}" for what in found]
        say(f"round {number}: settled in {settled_s:.1f} s")

    def _carry_out(self, faults: tuple[Timed, ...]) -> None:
        """Each fault at its time, and its end at its own."""
        begun = time.monotonic()
        todo: list[tuple[float, int, Callable[[], object]]] = [
            (one.at_s, order, lambda one=one: self.there.strike(one.fault))  # type: ignore[misc]
            for order, one in enumerate(faults)
        ]
        holds = {order: getattr(one.fault, "hold_s", 0.0) for order, one in enumerate(faults)}
        while todo:
            todo.sort(key=lambda one: one[:2])
            at_s, order, act = todo.pop(0)
            while (wait_s := begun + at_s - time.monotonic()) > 0:
                self._never_twice()
                threading.Event().wait(min(wait_s, 0.1))
            ends = act()
            if callable(ends):
                todo.append((time.monotonic() - begun + holds[order], order, ends))

    def settle(self, *, all_tasks: bool) -> tuple[float, list[str]]:
        """Seconds until all holds, and what does not after the time is up. `all_tasks`: each that
        was sent must be done, not only those that a living process has begun."""
        begun = time.monotonic()
        holding = 0
        while True:
            self._never_twice()
            left = self._unsettled(all_tasks)
            holding = 0 if left else holding + 1
            passed_s = time.monotonic() - begun
            if holding == 2 or passed_s > SETTLE_S:
                return passed_s, left
            threading.Event().wait(POLL_S)

    def _unsettled(self, all_tasks: bool) -> list[str]:
        try:
            with self.there.system.database() as connection:
                seen = sight.look(self.there.system, connection)
            overdue = invariants.overdue(self._log_rows())
        except psycopg.Error as error:
            return [f"the database is away: {error}"]
        anybody = any(seen.rows[worker_id].state is State.RUNNING for worker_id in WORKERS)
        all_tasks = all_tasks and anybody and not overdue
        tasks = self.there.work.undone(all_of_them=all_tasks)
        return invariants.unsettled(seen) + self.there.lines_behind() + tasks

    def _never_twice(self) -> None:
        for what in invariants.twice(sight.mains(self.there.system.home)):
            say(f"VIOLATION: {what}")
            self.violations.append(what)

    def _log_rows(self) -> list[invariants.LogRow]:
        """Those of this round."""
        with self.there.system.database() as connection:
            return sight.log_rows(connection, self.last_log_row)

    def _rows(self) -> dict[str, invariants.Row]:
        with self.there.system.database() as connection:
            return sight.rows(connection)

    def _wait_for_stable_parts(self, faults: tuple[Timed, ...]) -> None:
        names = {name for one in faults for name in parts_of(one.fault)}

        def young() -> bool:
            return any(self.there.part_age_s(name) < STABLE_S for name in names)

        while young():
            self._never_twice()
            threading.Event().wait(POLL_S)


def parts_of(fault: Fault) -> set[str]:
    """The parts of `up` that this fault ends."""
    match fault:
        case Kill(target=target, worker_id=""):
            targets = {target}
        case KillTogether(targets=together):
            targets = set(together) - {"keeper", "main"}
        case _:
            return set()
    return {"agent" if target == "zygote" else target for target in targets}


def touched(faults: tuple[Timed, ...]) -> set[str]:
    """The workers whose process may be another one afterwards."""
    found: set[str] = set()
    for one in faults:
        match one.fault:
            case Wish(worker_ids=worker_ids):
                found |= set(worker_ids)
            case Kill(target="main", worker_id=worker_id):
                found.add(worker_id)
            case KillTogether(worker_id=worker_id):
                found.add(worker_id)
            case Freeze(target="main", worker_id=worker_id, hold_s=hold_s) if hold_s > MISSED_S:
                found.add(worker_id)
    return found


def keeps_tasks(faults: tuple[Timed, ...]) -> bool:
    """No worker is killed and the broker is left alone: no task may be lost or doubled, unless a
    stop takes longer than its time."""
    for one in faults:
        match one.fault:
            case Kill(target="main" | "pool" | "valkey") | Freeze(target="valkey"):
                return False
            case KillTogether() | Wish(graceful=False):
                return False
            case Freeze(target="main", hold_s=hold_s) if hold_s > MISSED_S:
                return False
    return True


def excuse_unseen(found: list[str], faults: tuple[Timed, ...]) -> list[str]:
    """Killed together with keeper and agent: nobody was there to see the exit."""
    alone = {one.fault.worker_id for one in faults if isinstance(one.fault, KillTogether)}
    return [
        what for what in found if not ("exit unknown" in what and what.partition(" ")[0] in alone)
    ]


@pytest.fixture(scope="module")
def there() -> Iterator[World]:
    with world(say) as made:
        yield made


@pytest.mark.timeout(int(MINUTES * 60) + 600)
def test_the_fleet_survives(there: World) -> None:
    chaos = Chaos(there)
    first = int(os.environ.get("MUSTER_CHAOS_ROUND") or 0)
    say(f"seed {SEED}, {MINUTES} minutes")
    assert chaos.settle(all_tasks=False)[1] == []
    ends_at = time.monotonic() + MINUTES * 60
    number = first
    while time.monotonic() < ends_at:
        chaos.round(number)
        number += 1
    lines = sum(ledger.seen() for ledger in there.ledgers.values())
    confessions = sum(ledger.confessions for ledger in there.ledgers.values())
    say(
        f"seed {SEED}: {number - first} rounds, {there.kills} kills survived, {lines} lines, "
        f"{confessions} confessions of a full disk, {chaos.overdue} stops that took too long, "
        f"slowest to settle {chaos.slowest_s:.1f} s, "
        f"{len(chaos.violations)} violations"
    )
    assert not chaos.violations
