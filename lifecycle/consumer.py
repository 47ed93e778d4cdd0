"""Celery's consumer, which asks for a broker that is away more often than Celery would."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

# Celery waits 2 s longer after each attempt, up to 30 s, and has no setting for it (5.6).
LONGEST_RETRY_S = 4


class Consumer(CeleryConsumer):
    def ensure_connected(self, conn: Any) -> Any:
        """Wait for the broker, for as long as it takes."""
        conn.ensure_connection = partial(conn.ensure_connection, interval_max=LONGEST_RETRY_S)
        return super().ensure_connected(conn)
