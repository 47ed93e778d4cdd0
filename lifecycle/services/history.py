"""What happened to workers, and the rolling restarts of the past: kept for a while [L2, L8]."""

from __future__ import annotations

from datetime import datetime, timedelta

from lifecycle.models import Rollout
from lifecycle.services.metrics import delete_in_parts

KEPT = timedelta(days=90)

# The index on `time`; in parts, as a worker that crashes all day writes a row each second.
PRUNE = """
DELETE FROM lifecycle_workerlog WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM lifecycle_workerlog WHERE time < %(before)s LIMIT %(most)s
))
"""


def prune(now: datetime) -> int:
    """Delete rows of the lifecycle log and ended rolling restarts that are older than `KEPT`; how
    many rows of the log went."""
    Rollout.objects.filter(finished_at__lt=now - KEPT).delete()
    return delete_in_parts(PRUNE, before=now - KEPT)
