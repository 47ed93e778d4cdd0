"""What is deleted when it is old: each at most `most` rows in one transaction, so that nothing
waits for long; returns how many. All are called until nothing is left (`sync.tasks`)."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from sync import sql


def prune_runs(before: datetime, most: int = 5000) -> int:
    """Receipts that finished before that."""
    return _prune(sql.books.PRUNE_RUNS, before, most)


def prune_deliveries(before: datetime, most: int = 5000) -> int:
    """Processed deliveries that came before that."""
    return _prune(sql.deliveries.PRUNE_DELIVERIES, before, most)


def prune_audits(before: datetime, most: int = 5000) -> int:
    """Audits that finished before that, but for the last of each account and its last complete
    one."""
    return _prune(sql.books.PRUNE_AUDITS, before, most)


def prune_logins(before: datetime, most: int = 5000) -> int:
    """Login sessions that ended before that."""
    return _prune(sql.books.PRUNE_LOGINS, before, most)


def prune_gaps(before: datetime, most: int = 5000) -> int:
    """Gaps that were closed before that."""
    return _prune(sql.books.PRUNE_GAPS, before, most)


def _prune(statement: str, before: datetime, most: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"before": before, "most": most})
        deleted: int = cursor.rowcount
    return deleted
