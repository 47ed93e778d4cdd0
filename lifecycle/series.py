"""How the history of workers is kept and shown [L17]: finer for a while, coarser for longer.

Pure: the statements that write, roll up and prune are in `lifecycle.services.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Resolution:
    """One point for each `step_s` seconds, kept for `kept`."""

    step_s: int
    kept: timedelta

    @property
    def step(self) -> timedelta:
        return timedelta(seconds=self.step_s)


RESOLUTIONS = (
    Resolution(10, timedelta(hours=1)),
    Resolution(60, timedelta(days=1)),
    Resolution(600, timedelta(days=30)),
)
FINEST = RESOLUTIONS[0]

PERIODS = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}


def resolution_for(length: timedelta) -> Resolution:
    """The finest that is kept for this long."""
    return next(r for r in RESOLUTIONS if r.kept >= length)


class Row(NamedTuple):
    """One stored point. The two totals are of the worker's whole life and only ever rise."""

    time: datetime
    cpu_usage: float
    memory_mb: float
    active_tasks: float
    tasks_total: int
    errors_total: int


class Point(NamedTuple):
    """What happened from `time` on for one step. None: not known, as nothing is known before."""

    time: datetime
    cpu_usage: float
    memory_mb: float
    active_tasks: float
    tasks: int | None
    errors_per_minute: float | None


def points(rows: Iterable[Row], step_s: int, since: datetime) -> Iterator[Point]:
    """Rows (oldest first) as points from `since` on; one row before it makes the first complete.

    Where there is no row there is no point: a worker that did not run has a gap, not a zero.
    """
    before: Row | None = None
    for row in rows:
        if row.time >= since:
            tasks = max(row.tasks_total - before.tasks_total, 0) if before else None
            errors = max(row.errors_total - before.errors_total, 0) if before else None
            yield Point(
                row.time,
                round(row.cpu_usage, 2),
                round(row.memory_mb, 2),
                round(row.active_tasks, 2),
                tasks,
                None if errors is None else round(errors * 60 / step_s, 3),
            )
        before = row
