"""When an account is checked again.

Pure: `now` and `random` (a number in [0, 1)) are arguments, decisions are values that the caller
carries out. Which accounts are due is one statement, `sync.sql.CLAIM`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

JITTER = 0.1  # of an interval, either way [S2]
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 120.0
LONGEST_THROTTLE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class DueAt:
    """Check again then."""

    at: datetime


@dataclass(frozen=True, slots=True)
class WaitForPerson:
    """Don't check again until credentials change or somebody asks: retries would lock it out."""


Decision = DueAt | WaitForPerson


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with a check, as far as the next one depends on it."""

    attempts: int  # failed checks in a row, this one included
    needs_person: bool = False
    retry_after_s: float | None = None  # what the platform asked for


def after_success(now: datetime, interval_s: float, random: float) -> DueAt:
    """After the interval, spread by ±10 %."""
    return DueAt(now + timedelta(seconds=interval_s * (1 + JITTER * (2 * random - 1))))


def after_failure(now: datetime, failure: Failure, random: float) -> Decision:
    """Exponential from 2 s to 2 min, jittered to half at least; never before `retry_after_s`."""
    if failure.needs_person:
        return WaitForPerson()
    asked = failure.retry_after_s
    if asked is not None and math.isfinite(asked) and asked > 0:
        asked = min(asked, LONGEST_THROTTLE_S)
        return DueAt(now + timedelta(seconds=asked * (1 + JITTER * random)))
    return DueAt(now + timedelta(seconds=backoff_s(failure.attempts, random)))


def backoff_s(attempts: int, random: float, longest_s: float = LONGEST_RETRY_S) -> float:
    """Seconds to wait after this many failures in a row (1 or more)."""
    doubled = FIRST_RETRY_S * 2.0 ** min(max(attempts, 1) - 1, 32)
    return min(doubled, longest_s) * (0.5 + 0.5 * random)
