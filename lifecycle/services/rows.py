"""One locked row, one step, one log row: what every service is made of.

What changes on the locked row, and its log rows, are written together when the block ends: one
statement (`row_sql`), however many steps a transaction takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TypeVar

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import QuerySet

from lifecycle.errors import LostRace, UnknownWorker
from lifecycle.models import WorkerLog, WorkerRuntime
from lifecycle.services.row_sql import read, write
from lifecycle.states import advance
from lifecycle.types import STOP_TIMEOUT_MS, Event, Instance, Level, State

CHANNEL = "muster_lifecycle"
UNLOCKED_TRIES = 3

T = TypeVar("T")


def notify(worker_id: str) -> None:
    """Wake the master and whoever else listens, when this transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, worker_id])


@contextmanager
def locked(worker_id: str) -> Iterator[WorkerRuntime]:
    """The runtime row, locked for one transaction; what the block changes on it is written.

    Whoever also writes the config does so after this: the log rows of all others refer to it while
    they hold this lock. Raises `UnknownWorker`.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        runtime = _read(cursor, worker_id, locks=True)
        before = dict(vars(runtime))
        runtime.gathered = []
        yield runtime
        write(cursor, runtime, before, CHANNEL)
        runtime.gathered = None


def look(worker_id: str) -> WorkerRuntime | None:
    """The row as it is now, with its config, for `unlocked`."""
    with connection.cursor() as cursor:
        return read(cursor, worker_id, locks=False)


def unlocked(
    worker_id: str,
    step: Callable[[WorkerRuntime], T],
    is_last: Callable[[T], bool],
    seen: WorkerRuntime | None = None,
) -> T:
    """What `step` does to the row, if nobody has written the row meanwhile; else it is done again,
    with what there is now.

    Two trips to the database, where a lock takes four, or one with a row that was `seen` before:
    for what a worker's next start waits for.
    `is_last` is asked with what `step` returned: whether no other transaction follows at once, to
    which durability and notification are left (`make_durable`).
    Raises `UnknownWorker`.
    """
    with connection.cursor() as cursor:
        for _ in range(UNLOCKED_TRIES):
            runtime, seen = seen or _read(cursor, worker_id, locks=False), None
            before = dict(vars(runtime))
            runtime.gathered = []
            done = step(runtime)
            if write(
                cursor,
                runtime,
                before,
                CHANNEL,
                if_unchanged=True,
                is_last=is_last(done),
            ):
                runtime.gathered = None
                return done
    with locked(worker_id) as runtime:
        return step(runtime)


def _read(cursor: CursorWrapper, worker_id: str, *, locks: bool) -> WorkerRuntime:
    runtime = read(cursor, worker_id, locks=locks)
    if runtime is None:
        raise UnknownWorker(worker_id)
    return runtime


def make_durable() -> None:
    """All that was committed before is on disk, also what did not wait for it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_logical_emit_message(true, 'muster', '')")


def in_order(rows: QuerySet[WorkerRuntime]) -> QuerySet[WorkerRuntime]:
    """These rows, locked until the transaction ends, in the one order of all who lock many."""
    found = rows.select_for_update(of=("self",)).order_by("pk").only("pk")
    return WorkerRuntime.objects.filter(pk__in=[runtime.pk for runtime in found])


class Role(Enum):
    """What an instance is to its worker now."""

    CURRENT = "current"
    SUCCESSOR = "successor"
    RETIRING = "retiring"


@contextmanager
def belonging(instance: Instance) -> Iterator[tuple[WorkerRuntime, Role]]:
    """The locked runtime and what the instance is to it. Raises `LostRace`: it is of the past."""
    with locked(instance.worker_id) as runtime:
        yield runtime, role_of(instance, runtime)


def role_of(instance: Instance, runtime: WorkerRuntime) -> Role:
    """Raises `LostRace`: it is of the past."""
    roles = {
        runtime.retiring_generation: Role.RETIRING,
        runtime.successor_generation: Role.SUCCESSOR,
        runtime.generation: Role.CURRENT,
    }
    if instance.generation not in roles:
        raise LostRace(f"{instance} is not current, {runtime.generation} is")
    return roles[instance.generation]


@contextmanager
def current(instance: Instance) -> Iterator[WorkerRuntime]:
    """The locked runtime, if it still belongs to this instance: generation is the fence."""
    with locked(instance.worker_id) as runtime:
        if runtime.generation != instance.generation:
            raise LostRace(f"{instance} is not current, {runtime.generation} is")
        yield runtime


def claim(runtime: WorkerRuntime, generation: int) -> None:
    """Take the next generation number. Raises `LostRace` when it is not the next any more."""
    if runtime.last_generation != generation - 1:
        raise LostRace(f"generation {generation} is not next, {runtime.last_generation + 1} is")
    runtime.last_generation = generation


def reset(runtime: WorkerRuntime, actor: str) -> None:
    """A person's word ends a crash or an error and forgets the restart attempts."""
    forget_attempts(runtime)
    if runtime.state in (State.CRASHED, State.ERROR):
        runtime.restart_at = None
        move(runtime, Event.RESET, "reset", actor=actor, reason="")


def forget_attempts(runtime: WorkerRuntime) -> None:
    """The restart policy begins anew. The caller holds the lock."""
    runtime.restart_attempts, runtime.attempts_since = 0, None


def forget_stop(runtime: WorkerRuntime) -> None:
    """How a former process was ended is not how the next one will be. The caller holds the lock."""
    runtime.stop_graceful, runtime.stop_timeout_ms = True, STOP_TIMEOUT_MS


def move(
    runtime: WorkerRuntime,
    event: Event,
    message: str,
    *,
    actor: str = "",
    level: Level = Level.INFO,
    reason: str | None = None,
) -> None:
    """Take one step of the transition table, and leave its log row. The caller holds the lock;
    row and log are written, and the channel notified, when it lets go."""
    before = State(runtime.state)
    runtime.state = advance(before, event).value
    runtime.reason = (message if reason is None else reason)[:1000]
    record(runtime, event, message, actor or "master", level=level, before=before)


def record(
    runtime: WorkerRuntime,
    event: str,
    message: str,
    actor: str,
    *,
    level: Level = Level.INFO,
    before: State | None = None,
) -> None:
    row = WorkerLog(
        config_id=runtime.pk,
        level=level.value,
        event=event,
        from_state=(before or runtime.state),
        to_state=runtime.state,
        generation=runtime.generation,
        message=message,
        actor=actor,
    )
    if runtime.gathered is None:
        row.save()
    else:
        runtime.gathered.append(row)
