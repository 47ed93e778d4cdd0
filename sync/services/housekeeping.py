"""What is deleted when it is old."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from sync import sql


def prune_runs(before: datetime, most: int = 5000) -> int:
    """Delete receipts that finished before that, at most so many in one transaction."""
    with connection.cursor() as cursor:
        cursor.execute(sql.books.PRUNE_RUNS, {"before": before, "most": most})
        deleted: int = cursor.rowcount
    return deleted
