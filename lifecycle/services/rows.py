"""One locked row, one step, one log row: what every service is made of.

What changes on the locked row, and its log rows, are written together when the block ends: one
statement, however many steps a transaction takes.

Statements are written by hand: between a worker's death and its next start there are two of them,
and the ORM takes twice the time of the database to put them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Field, Model
from django.db.models.functions import Now

from lifecycle.errors import LostRace, UnknownWorker
from lifecycle.models import WorkerConfig, WorkerLog, WorkerRuntime
from lifecycle.states import advance
from lifecycle.types import Event, Instance, Level, State

CHANNEL = "muster_lifecycle"
M = TypeVar("M", bound=Model)


def notify(worker_id: str) -> None:
    """Wake the master and whoever else listens, when this transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, worker_id])


@contextmanager
def locked(worker_id: str) -> Iterator[WorkerRuntime]:
    """The runtime row, locked for one transaction; what the block changes on it is written.

    Raises `UnknownWorker`.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_lock(), [worker_id])
        row = cursor.fetchone()
        if row is None:
            raise UnknownWorker(worker_id)
        split = len(_fields(WorkerRuntime))
        runtime = _made(WorkerRuntime, row[:split])
        runtime.config = _made(WorkerConfig, row[split:])
        before = dict(vars(runtime))
        runtime.gathered = []
        yield runtime
        _write(cursor, runtime, before)
        runtime.gathered = None


@cache
def _fields(model: type[Model]) -> list[Field[Any, Any]]:
    return list(model._meta.concrete_fields)


@cache
def _lock() -> str:
    """By the index of worker ids, then by primary key."""
    columns = [f"r.{f.column}" for f in _fields(WorkerRuntime)]
    columns += [f"c.{f.column}" for f in _fields(WorkerConfig)]
    return f"""
        SELECT {", ".join(columns)}
        FROM lifecycle_workerruntime r JOIN lifecycle_workerconfig c ON c.id = r.config_id
        WHERE c.worker_id = %s FOR UPDATE OF r
    """  # noqa: S608 - names of columns


def _made(model: type[M], row: Sequence[Any]) -> M:
    values = [
        field.from_db_value(value, None, connection) if hasattr(field, "from_db_value") else value
        for field, value in zip(_fields(model), row, strict=True)
    ]
    return model.from_db(connection.alias, [f.attname for f in _fields(model)], values)


def _write(cursor: CursorWrapper, runtime: WorkerRuntime, before: dict[str, Any]) -> None:
    """The row by its primary key, its log rows, and the notification of whoever listens."""
    changed = [
        f for f in _fields(WorkerRuntime) if getattr(runtime, f.attname) != before[f.attname]
    ]
    parts: dict[str, str] = {}
    values: list[Any] = []
    if changed:
        assignments = [f"{f.column} = {_value(f, runtime, values)}" for f in changed]
        parts["written"] = (
            f"UPDATE lifecycle_workerruntime SET {', '.join(assignments)} WHERE config_id = %s"
        )
        values.append(runtime.pk)
    if runtime.gathered:
        columns = [f for f in _fields(WorkerLog) if f.column not in ("id", "time")]
        rows = [", ".join(_value(f, row, values) for f in columns) for row in runtime.gathered]
        names = ", ".join(f.column for f in columns)
        parts["logged"] = f"INSERT INTO lifecycle_workerlog ({names}) VALUES ({'), ('.join(rows)})"
    if parts:
        together = ", ".join(f"{name} AS ({part})" for name, part in parts.items())
        cursor.execute(
            f"WITH {together} SELECT pg_notify(%s, %s)",
            [*values, CHANNEL, runtime.config.worker_id],
        )


def _value(field: Field[Any, Any], row: Model, values: list[Any]) -> str:
    value = getattr(row, field.attname)
    if isinstance(value, Now):
        return "statement_timestamp()"
    values.append(field.get_db_prep_save(value, connection))
    return "%s"


class Role(Enum):
    """What an instance is to its worker now."""

    CURRENT = "current"
    SUCCESSOR = "successor"
    RETIRING = "retiring"


@contextmanager
def belonging(instance: Instance) -> Iterator[tuple[WorkerRuntime, Role]]:
    """The locked runtime and what the instance is to it. Raises `LostRace`: it is of the past."""
    with locked(instance.worker_id) as runtime:
        roles = {
            runtime.retiring_generation: Role.RETIRING,
            runtime.successor_generation: Role.SUCCESSOR,
            runtime.generation: Role.CURRENT,
        }
        if instance.generation not in roles:
            raise LostRace(f"{instance} is not current, {runtime.generation} is")
        yield runtime, roles[instance.generation]


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
