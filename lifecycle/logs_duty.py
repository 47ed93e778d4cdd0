"""The master's duty that removes the log files of deleted workers once nobody needs them.

A duty and not part of the deletion: the agent may be away then, and people delete by mistake.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from lifecycle import queries
from lifecycle.backends import backends
from lifecycle.backends.base import Backend
from lifecycle.errors import BackendUnavailable

log = logging.getLogger(__name__)

PERIOD = timedelta(hours=1)
KEPT = timedelta(days=7)  # after the deletion of the config; said on the page that confirms it


class LogsDuty:
    name = "logs"
    channels: tuple[str, ...] = ()

    def run(self, now: datetime) -> datetime:
        for backend in backends().values():
            try:
                remove_old_logs(backend, now)
            except BackendUnavailable as error:
                log.info("log files of deleted workers are looked at later: %s", error)
        return now + PERIOD


def remove_old_logs(backend: Backend, now: datetime) -> list[str]:
    """The workers whose files were removed. Raises `BackendUnavailable`."""
    written = backend.logged_workers()
    unknown = written.keys() - queries.known_workers(written)
    due = [
        worker_id
        for worker_id, deleted_at in queries.deleted_at(unknown).items()
        if is_due(worker_id, deleted_at, written, now)
    ]
    removed = [worker_id for worker_id in sorted(due) if backend.remove_logs(worker_id)]
    for worker_id in removed:
        log.info("removed the log files of %s: its config was deleted", worker_id)
    return removed


def is_due(
    worker_id: str, deleted_at: datetime | None, written: Mapping[str, float], now: datetime
) -> bool:
    """By the later of its deletion and its last line; the latter alone where nothing is known of a
    deletion (an older database was restored)."""
    last_line = datetime.fromtimestamp(written[worker_id], UTC)
    return now - max(last_line, deleted_at or last_line) >= KEPT
