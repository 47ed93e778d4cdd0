"""The master's housekeeping of the history of workers.

A duty and not a task of beat: it must go on while the broker is away and every worker is down,
which is when people look at charts. One leader, so nobody does it twice; what a round missed the
next one makes up for, because each statement starts from what is stored.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from lifecycle.services import history, metrics

log = logging.getLogger(__name__)

PERIOD = timedelta(seconds=60)


class MetricsDuty:
    name = "metrics"
    channels: tuple[str, ...] = ()

    def run(self, now: datetime) -> datetime:
        written, pruned = metrics.roll_up(), metrics.prune(now)
        log.debug("rolled up %s points, pruned %s", written, pruned)
        log.debug("pruned %s rows of the lifecycle log", history.prune(now))
        return now + PERIOD
