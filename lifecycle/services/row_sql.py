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


def read(cursor: CursorWrapper, worker_id: str, *, locks: bool) -> WorkerRuntime | None:
    """Runtime and config; the runtime may be locked until the transaction ends."""
    cursor.execute(_select() + (" FOR UPDATE OF r" if locks else ""), [worker_id])
    row = cursor.fetchone()
    if row is None:
        return None
    split = len(_fields(WorkerRuntime))
    runtime = _made(WorkerRuntime, row[:split])
    runtime.config = _made(WorkerConfig, row[split:-1])
    runtime.row_version = row[-1]
    return runtime


@cache
def _fields(model: type[Model]) -> list[Field[Any, Any]]:
    return list(model._meta.concrete_fields)  # noqa: SLF001 - Django's documented model API


@cache
def _select() -> str:
    """By the index of worker ids, then by primary key; last the version of the row."""
    columns = [f"r.{f.column}" for f in _fields(WorkerRuntime)]
    columns += [f"c.{f.column}" for f in _fields(WorkerConfig)]
    return f"""
        SELECT {", ".join(columns)}, r.xmin::text
        FROM lifecycle_workerruntime r JOIN lifecycle_workerconfig c ON c.id = r.config_id
        WHERE c.worker_id = %s
    """  # noqa: S608 - names of columns


def _made(model: type[M], row: Sequence[Any]) -> M:
    values = [
        field.from_db_value(value, None, connection) if hasattr(field, "from_db_value") else value
        for field, value in zip(_fields(model), row, strict=True)
    ]
    return model.from_db(connection.alias, [f.attname for f in _fields(model)], values)


def write(
    cursor: CursorWrapper,
    runtime: WorkerRuntime,
    before: dict[str, Any],
    channel: str,
    *,
    if_unchanged: bool = False,
    is_last: bool = True,
) -> bool:
    """What differs from `before`, by primary key; the gathered log rows; the notification of
    whoever listens. Nothing when nothing is to be written.

    False: nothing is written, as somebody has written the row since it was read (`if_unchanged`).
    Unless it `is_last`, another transaction follows at once: this one leaves it to that to wait for
    the disk and to notify.
    """
    values: list[Any] = []
    parts: dict[str, str] = {}
    if update := _update(runtime, before, values, if_unchanged=if_unchanged):
        parts["written"] = update
    if runtime.gathered:
        parts["logged"] = _insert(runtime.gathered, values, after="written" if update else "")
    if not parts:
        return True
    if is_last:
        end = "pg_notify(%s, %s)"
        values += [channel, runtime.config.worker_id]
    else:
        end = "set_config('synchronous_commit', 'off', true)"
    together = ", ".join(f"{name} AS ({part})" for name, part in parts.items())
    cursor.execute(
        f"WITH {together} SELECT {end}{' FROM written' if update else ''}",  # noqa: S608
        values,
    )
    return cursor.fetchone() is not None


def _update(
    runtime: WorkerRuntime, before: dict[str, Any], values: list[Any], *, if_unchanged: bool
) -> str:
    """Of what differs; "" when nothing does."""
    changed = [
        f for f in _fields(WorkerRuntime) if getattr(runtime, f.attname) != before[f.attname]
    ]
    if not changed:
        return ""
    assignments = ", ".join(f"{f.column} = {_value(f, runtime, values)}" for f in changed)
    values.append(runtime.pk)
    guard = ""
    if if_unchanged:
        values.append(runtime.row_version)
        guard = " AND xmin = %s::xid"
    return (
        f"UPDATE lifecycle_workerruntime SET {assignments} "  # noqa: S608
        f"WHERE config_id = %s{guard} RETURNING config_id"
    )


def _insert(rows: Sequence[WorkerLog], values: list[Any], *, after: str) -> str:
    """Of these rows; if anything was written, where that is asked for."""
    columns = [f for f in _fields(WorkerLog) if f.column not in ("id", "time")]
    lines = [", ".join(_value(f, row, values) for f in columns) for row in rows]
    names = ", ".join(str(f.column) for f in columns)
    return (
        f"INSERT INTO lifecycle_workerlog ({names}) SELECT line.* "  # noqa: S608
        f"FROM (VALUES ({'), ('.join(lines)})) AS line{', ' + after if after else ''}"
    )


def _value(field: Field[Any, Any], row: Model, values: list[Any]) -> str:
    value = getattr(row, field.attname)
    if isinstance(value, Now):
        return "statement_timestamp()"
    values.append(field.get_db_prep_save(value, connection))
    return "%s"
