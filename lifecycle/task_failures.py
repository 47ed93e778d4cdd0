"""Failures of tasks, gathered between two writes: what fails fast must not be written one by one
[L3, L17]."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from lifecycle.storable import storable

LONGEST_ERROR = 2000


@dataclass(frozen=True, slots=True)
class Failures:
    """How many tasks failed, and with what the last one did."""

    count: int
    error: str
    at: datetime


class FailedTasks:
    """Failures that nobody took yet. Any thread may add."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._failures: Failures | None = None

    def __bool__(self) -> bool:
        return self._failures is not None

    def add(self, error: str, at: datetime) -> bool:
        """Whether it is the first since the last `take`."""
        text = storable(error)[:LONGEST_ERROR]
        with self._guard:
            before = self._failures.count if self._failures else 0
            self._failures = Failures(before + 1, text, at)
        return before == 0

    def take(self) -> Failures | None:
        with self._guard:
            failures, self._failures = self._failures, None
        return failures
