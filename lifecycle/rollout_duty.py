"""The master's duty that carries rolling restarts on."""

from __future__ import annotations

from datetime import datetime, timedelta

from lifecycle.services import CHANNEL, advance_rollout

WHILE_RUNNING = timedelta(seconds=2)
WHILE_IDLE = timedelta(seconds=30)


class RolloutDuty:
    name = "rollout"
    channels: tuple[str, ...] = (CHANNEL,)

    def run(self, now: datetime) -> datetime:
        """One query when nothing rolls; else two and what is due. Notifications wake it."""
        return now + (WHILE_RUNNING if advance_rollout(now) else WHILE_IDLE)
