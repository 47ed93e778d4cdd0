"""The master's regular look at the health of the fleet: one query, whatever its size [L9]."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from django.utils import timezone

from lifecycle import queries, services
from lifecycle.errors import LostRace, UnknownWorker
from lifecycle.health import Doctor
from lifecycle.types import Instance

log = logging.getLogger(__name__)

PERIOD = timedelta(seconds=5)
# More than this between the wall clock and the monotonic one: somebody set the clock.
CLOCK_JUMP_S = 5.0


class Checkup:
    def __init__(self) -> None:
        self.due_at = timezone.now() + PERIOD
        self._doctor = Doctor(watching_since=time.monotonic())
        self._clocks = (time.time(), time.monotonic())

    def run(self, now: datetime) -> list[tuple[Instance, bool]]:
        """Condemn who is unwell; the instances to end, each with whether gracefully."""
        self.due_at = now + PERIOD
        self._notice_clock_jump()
        ending = []
        for diagnosis in self._doctor.examine(queries.vitals(), time.monotonic()):
            try:
                if services.condemned(diagnosis.instance, diagnosis.cause):
                    log.warning("replacing %s: %s", diagnosis.instance, diagnosis.cause)
                    ending.append((diagnosis.instance, diagnosis.graceful))
            except (LostRace, UnknownWorker) as error:
                log.info("no longer there to be replaced: %s", error)
        return ending

    def _notice_clock_jump(self) -> None:
        before_wall, before_monotonic = self._clocks
        self._clocks = wall, monotonic = time.time(), time.monotonic()
        jump_s = (wall - before_wall) - (monotonic - before_monotonic)
        if abs(jump_s) > CLOCK_JUMP_S:
            log.warning("the clock jumped by %.0f s; heartbeats are judged anew", jump_s)
            self._doctor.start_over(monotonic)
