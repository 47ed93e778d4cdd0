"""What checks tell of the servers that they ask: their circuit breakers [S2].

A closed breaker costs nothing: a success is written only where failures were.
"""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import connection, transaction
from django.db.models.functions import Now

from sync import breaker, sql
from sync.models import PlatformServer
from sync.services.rows import notify
from sync.types import AccountRef, BreakerState

log = logging.getLogger(__name__)


def server_failed(
    ref: AccountRef, error: str, now: datetime, random: float, retry_after_s: float | None = None
) -> None:
    """A server did not do what was asked; maybe it is asked no more for a while."""
    with transaction.atomic():
        row, _made = PlatformServer.objects.select_for_update().get_or_create(
            platform=ref.platform, endpoint=ref.endpoint
        )
        after = breaker.failed(_breaker(row), now, random, retry_after_s)
        opens = after.state == BreakerState.OPEN and row.state != BreakerState.OPEN
        row.state, row.failures = after.state.value, after.failures
        row.opened_at, row.retry_at = after.opened_at, after.retry_at
        row.last_error, row.updated_at, row.tried_by = error, now, None
        row.save()
    if opens:
        log.warning("%s does not answer, nobody asks it until %s: %s", row, row.retry_at, error)


def server_answered(ref: AccountRef) -> None:
    """A server that had failed works again: all of its accounts are checked."""
    rows = PlatformServer.objects.filter(
        platform=ref.platform, endpoint=ref.endpoint, failures__gt=0
    )
    with transaction.atomic():
        before = rows.select_for_update().first()
        if before is None:
            return
        rows.update(
            state=BreakerState.CLOSED.value,
            failures=0,
            opened_at=None,
            retry_at=None,
            tried_by=None,
            updated_at=Now(),
        )
        if before.state != BreakerState.CLOSED:
            log.info("%s answers again", before)
            notify(0)


def forget_servers() -> int:
    """Servers that nobody would ask any more: that they failed is of no use; returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(sql.claims.FORGET_SERVERS)
        forgotten: int = cursor.rowcount
    return forgotten


def _breaker(row: PlatformServer) -> breaker.Breaker:
    return breaker.Breaker(BreakerState(row.state), row.failures, row.opened_at, row.retry_at)
