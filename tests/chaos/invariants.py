"""What must hold once the dust has settled: pure checks of one look at the system."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from lifecycle.agent.roster import OVERDUE
from lifecycle.states import NEXT, WITH_PROCESS
from lifecycle.types import Event, State, Wish

WISHED_S = 5.0  # of each graceful stop that is asked for
LATE = re.compile(rf"{OVERDUE} ([0-9.]+) s")


@dataclass(frozen=True, slots=True)
class Row:
    """A worker as the database says."""

    worker_id: str
    state: State
    wish: Wish
    generation: int
    wanted_generation: int
    process_id: int | None
    restart_count: int
    reason: str
    successor: int | None
    retiring: int | None


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this home, as the kernel says."""

    pid: int
    parent: int
    state: str  # one letter, as in /proc/<pid>/stat
    title: str
    role: str  # main, pool, keeper, zygote, agent, master, part, other
    worker_id: str = ""
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class LogRow:
    """A line of a worker's lifecycle log."""

    id: int
    worker_id: str
    event: str
    before: str
    after: str
    generation: int
    message: str


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at everything."""

    rows: dict[str, Row]
    processes: tuple[Process, ...]
    zombies: tuple[Process, ...]  # children of this home's processes
    locked: frozenset[tuple[str, int]]  # worker id and number of each held lock
    parts_away: tuple[str, ...]  # parts that `up` should have running
    spawns: frozenset[tuple[str, int]]  # spawn folders on disk

    def of(self, role: str, worker_id: str = "") -> list[Process]:
        return [p for p in self.processes if p.role == role and worker_id in ("", p.worker_id)]


def unsettled(sight: Sight) -> list[str]:
    """What does not hold at this moment; all of it must become true within the time to settle."""
    found = [f"part {name} does not run" for name in sight.parts_away]
    found += [f"zombie {p.pid} {p.title}, child of {p.parent}" for p in sight.zombies]
    for role in ("master", "agent", "zygote"):
        if len(sight.of(role)) != 1:
            found.append(f"{len(sight.of(role))} processes are {role}")
    strangers = {p.worker_id for p in sight.processes if p.worker_id} - set(sight.rows)
    found += [f"a process of {worker_id}, which has no row" for worker_id in sorted(strangers)]
    found += [f"{p.pid} {p.title} belongs to nothing" for p in sight.of("other")]
    for row in sight.rows.values():
        found += _of_worker(sight, row)
    return found


def _of_worker(sight: Sight, row: Row) -> list[str]:
    found = _wish(row)
    name = f"{row.worker_id} ({row.state}, generation {row.generation})"
    mains = sight.of("main", row.worker_id)
    up = row.state in WITH_PROCESS
    if [main.pid for main in mains] != ([row.process_id] if up else []):
        pids = [main.pid for main in mains]
        found.append(f"{name} has processes {pids}, its row says {row.process_id}")
    if len(sight.of("keeper", row.worker_id)) != len(mains):
        found.append(f"{name} has {len(sight.of('keeper', row.worker_id))} keepers")
    locks = {number for worker_id, number in sight.locked if worker_id == row.worker_id}
    if len(locks) != len(mains):
        found.append(f"{name} holds locks {locks}")
    if row.successor is not None or row.retiring is not None:
        found.append(f"{name} is being replaced: {row.successor}, {row.retiring}")
    for process in (*mains, *sight.of("pool", row.worker_id)):
        if process.generation != row.generation or not up:
            found.append(f"{name}: {process.pid} {process.role} is of {process.generation}")
    kept = {number for worker_id, number in sight.spawns if worker_id == row.worker_id}
    if kept - ({row.generation} if up else set()):
        found.append(f"{name}: folders of {sorted(kept)} are left")
    return found


def _wish(row: Row) -> list[str]:
    """[L6] with its attempts unlimited, nothing that happens here ends in `error`."""
    reached = State.RUNNING if row.wish is Wish.RUNNING else State.STOPPED
    if row.state is not reached or (
        reached is State.RUNNING and row.generation < row.wanted_generation
    ):
        return [f"{row.worker_id} is {row.state} ({row.reason}), wished for: {row.wish}"]
    return []


def twice(mains: list[tuple[str, int]]) -> list[str]:
    """Must never be, not even for a moment [L11]: one generation in two processes, or a third
    generation beside a worker and its successor. Of (worker id, generation) of each process."""
    found = []
    for worker_id in {worker_id for worker_id, _ in mains}:
        running = Counter(number for name, number in mains if name == worker_id)
        if max(running.values()) > 1 or len(running) > 2:
            found.append(f"{worker_id} runs as generations {sorted(running.elements())}")
    return found


def illegal(rows: list[LogRow], states: dict[str, str]) -> list[str]:
    """Log rows that are no move of the transition table, or do not follow from the row before.

    `states` is the state of each worker before these rows, and is brought up to date.
    """
    found = []
    events = {event.value for event in Event}
    for row in rows:
        before = states.get(row.worker_id, row.before)
        if row.before != before:
            found.append(f"{row.worker_id}: {row.event} from {row.before}, but it was {before}")
        if row.event in events:
            move = NEXT.get((State(row.before), Event(row.event)))
            if move is None or move != row.after:
                found.append(f"{row.worker_id}: {row.event} from {row.before} to {row.after}")
        elif row.before != row.after:
            found.append(f"{row.worker_id}: {row.event} is no event but changes {row.before}")
        states[row.worker_id] = row.after
    return found


def exits_unknown(rows: list[LogRow]) -> list[str]:
    """Exits whose code or signal nobody recorded."""
    return [
        f"{row.worker_id} generation {row.generation}: {row.message}"
        for row in rows
        if row.event == Event.EXITED and "unknown" in row.message
    ]


def overdue(rows: list[LogRow]) -> list[LogRow]:
    """Ends of workers that had used up the time of a graceful stop [L7]: what they had is lost, or
    comes back after the broker's visibility timeout."""
    had_s = ((row, LATE.search(row.message)) for row in rows)
    return [row for row, late in had_s if late and float(late[1]) >= WISHED_S]


def disturbed(before: dict[str, Row], after: dict[str, Row], touched: set[str]) -> list[str]:
    """Workers that nobody touched and that are not the same process any more: an outage of the
    broker, the database, a master, an agent or a keeper is never a worker's crash [L5, L10]."""
    return [
        f"{worker_id}: pid {row.process_id} -> {after[worker_id].process_id}, "
        f"restarts {row.restart_count} -> {after[worker_id].restart_count}, "
        f"reason {after[worker_id].reason!r}"
        for worker_id, row in before.items()
        if worker_id not in touched
        and (row.process_id, row.restart_count)
        != (after[worker_id].process_id, after[worker_id].restart_count)
    ]
