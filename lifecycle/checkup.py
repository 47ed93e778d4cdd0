"""The master's regular look at the health of the fleet: one query, whatever its size [L9]."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from django.utils import timezone

from lifecycle import queries, services
from lifecycle.clocks import Clocks
from lifecycle.errors import LostRace, UnknownWorker
from lifecycle.health import Doctor
from lifecycle.types import Instance

log = logging.getLogger(__name__)

PERIOD = timedelta(seconds=5)
# Longer than this between two looks: we were frozen, or the database was.
STALL = 3 * PERIOD


class Checkup:
    def __init__(self) -> None:
        self.due_at = timezone.now() + PERIOD
        self._doctor = Doctor(watching_since=time.monotonic())
        self._clocks = Clocks()

    def run(self, now: datetime) -> list[tuple[Instance, bool]]:
        """Condemn who is unwell; the instances to end, each with whether gracefully."""
        self.due_at = now + PERIOD
        vitals = queries.vitals()
        self._notice_gap()  # also one in that query: what it found then is old
        ending = []
        for diagnosis in self._doctor.examine(vitals, time.monotonic()):
            try:
                if services.condemned(diagnosis.instance, diagnosis.cause):
                    log.warning("replacing %s: %s", diagnosis.instance, diagnosis.cause)
                    ending.append((diagnosis.instance, diagnosis.graceful))
            except (LostRace, UnknownWorker) as error:
                log.info("no longer there to be replaced: %s", error)
        return ending

    def _notice_gap(self) -> None:
        passed_s, jump_s = self._clocks.look()
        if jump_s or passed_s > STALL.total_seconds():
            log.warning(
                "heartbeats are judged anew: %.0f s since the last look, clock set by %.0f s",
                passed_s,
                jump_s,
            )
            self._doctor.start_over(time.monotonic())
