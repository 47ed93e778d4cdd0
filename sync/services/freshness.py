"""`sync_stalled` [S7]: which accounts have not synced for too long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from sync import feed, sql


@dataclass(frozen=True, slots=True)
class Judged:
    """An account that has become stalled, or no longer is."""

    account_id: int
    name: str
    is_stalled: bool
    last_sync_at: datetime | None


def judge_freshness(now: datetime) -> list[Judged]:
    """Set and clear `stalled_since` of all accounts in one statement, and tell the feed.

    A disabled account, and one that waits for a person, is not stalled: it says so itself.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(sql.claims.JUDGE_FRESHNESS, {"now": now})
            judged = [Judged(*row) for row in cursor.fetchall()]
        for one in judged:
            feed.append(one.account_id, {"account": {"changed": [one.account_id]}})
    return judged
