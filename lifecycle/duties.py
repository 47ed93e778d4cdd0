"""The master's plug-in point: work that other apps want done by the one leading master."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Duty(Protocol):
    """Recurring work. Each duty has a thread of its own, so that none waits for another."""

    name: str
    channels: tuple[str, ...]  # PostgreSQL channels whose notifications make it run at once

    def run(self, now: datetime) -> datetime:
        """Do what is due and say when to run next, at the latest."""


_duties: dict[str, Duty] = {}


def register(duty: Duty) -> None:
    """Give the master a duty; a second one of the same name takes the first one's place."""
    _duties[duty.name] = duty


def registered() -> list[Duty]:
    return list(_duties.values())
