"""PostgreSQL ends one of two transactions that wait for each other. That is no lost database."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError

log = logging.getLogger(__name__)

T = TypeVar("T")
DEADLOCK_DETECTED = "40P01"  # PostgreSQL, appendix A
ATTEMPTS = 3


def despite_deadlocks(step: Callable[[], T]) -> T:
    """Take a step that is safe to repeat, again if it was the one to give way.

    Raises what the step raises; in the end also the deadlock.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return step()
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != DEADLOCK_DETECTED:
                raise
            log.warning("trying again after a deadlock: %s", error)
    return step()
