"""Totals for metrics: written by each process for all of its accounts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection

from sync import sql

TOTALS = (
    *("syncs", "batches", "new", "changed", "same", "refused"),
    *("size", "errors", "stale"),
)


@dataclass(frozen=True, slots=True)
class Total:
    """What is to be added for one worker and platform; `counts` in the order of `TOTALS`."""

    platform: str
    worker_id: str
    counts: tuple[int, ...]
    last_success_at: datetime | None


def add_totals(totals: Sequence[Total]) -> None:
    """Add in one statement; sorted by platform and worker, so that no two processes deadlock."""
    if not totals:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            sql.books.ADD_TOTALS,
            {
                "platforms": [one.platform for one in totals],
                "workers": [one.worker_id for one in totals],
                "last": [one.last_success_at for one in totals],
                **{name: [one.counts[i] for one in totals] for i, name in enumerate(TOTALS)},
            },
        )
