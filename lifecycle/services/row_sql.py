"""The two statements of a transaction on a worker's row, put together by hand.

Between a worker's death and its next start they are all that the database is asked, and the ORM
takes longer to put them together than the database to carry them out. Only names of columns and
placeholders are formatted into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Field, Model
from django.db.models.functions import Now

from lifecycle.models import WorkerConfig, WorkerLog, WorkerRuntime

M = TypeVar("M", bound=Model)


def read_locked(cursor: CursorWrapper, worker_id: str) -> WorkerRuntime | None:
    """Runtime, locked until the transaction ends, and config."""
    cursor.execute(_lock(), [worker_id])
    row = cursor.fetchone()
    if row is None:
        return None
    split = len(_fields(WorkerRuntime))
    runtime = _made(WorkerRuntime, row[:split])
    runtime.config = _made(WorkerConfig, row[split:])
    return runtime


@cache
def _fields(model: type[Model]) -> list[Field[Any, Any]]:
    return list(model._meta.concrete_fields)  # noqa: SLF001 - Django's documented model API


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


def write(
    cursor: CursorWrapper, runtime: WorkerRuntime, before: dict[str, Any], channel: str
) -> None:
    """What differs from `before`, by primary key; the gathered log rows; the notification of
    whoever listens. Nothing when nothing is to be written."""
    changed = [
        f for f in _fields(WorkerRuntime) if getattr(runtime, f.attname) != before[f.attname]
    ]
    parts: dict[str, str] = {}
    values: list[Any] = []
    if changed:
        assignments = [f"{f.column} = {_value(f, runtime, values)}" for f in changed]
        parts["written"] = (
            f"UPDATE lifecycle_workerruntime SET {', '.join(assignments)} "  # noqa: S608
            "WHERE config_id = %s"
        )
        values.append(runtime.pk)
    if runtime.gathered:
        columns = [f for f in _fields(WorkerLog) if f.column not in ("id", "time")]
        rows = [", ".join(_value(f, row, values) for f in columns) for row in runtime.gathered]
        names = ", ".join(str(f.column) for f in columns)
        parts["logged"] = (
            f"INSERT INTO lifecycle_workerlog ({names}) "  # noqa: S608
            f"VALUES ({'), ('.join(rows)})"
        )
    if parts:
        together = ", ".join(f"{name} AS ({part})" for name, part in parts.items())
        cursor.execute(
            f"WITH {together} SELECT pg_notify(%s, %s)",
            [*values, channel, runtime.config.worker_id],
        )


def _value(field: Field[Any, Any], row: Model, values: list[Any]) -> str:
    value = getattr(row, field.attname)
    if isinstance(value, Now):
        return "statement_timestamp()"
    values.append(field.get_db_prep_save(value, connection))
    return "%s"
