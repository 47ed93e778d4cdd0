"""When an account is checked again.

Pure: `now` and `random` (a number in [0, 1)) are arguments, decisions are values that the caller
carries out. Which accounts are due is one statement, `sync.sql.claims.CLAIM`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from sync.errors import LONGEST_THROTTLE_S

JITTER = 0.1  # of an interval, either way [S2]
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 120.0

# An account's interval follows its news [S2], within these parts of what people have set.
BUSIEST = 0.25
IDLEST = 4.0
SHORTEST_INTERVAL_S = 5.0
IDLE_AFTER_S = 1800.0  # without news
SHRINK, RECOVER, STRETCH = 0.5, 1.5, 1.25


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


def first_audit(now: datetime, interval_s: float, random: float) -> datetime:
    """Anywhere within the interval after the first full read: of accounts that were made together
    no more are due at a time than later, when each is due once in an interval."""
    return now + timedelta(seconds=interval_s * random)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often people want an account checked, and how often it is."""

    interval_s: float
    stalled_after_s: float
    current_s: float | None = None
    idle_s: float | None = None  # since the last news; None: there never were any

    @property
    def bounds(self) -> tuple[float, float]:
        """The shortest and the longest interval (s). A stretched one leaves room for a retry
        before the account counts as stalled."""
        shortest = min(max(self.interval_s * BUSIEST, SHORTEST_INTERVAL_S), self.interval_s)
        longest = min(self.interval_s * IDLEST, self.stalled_after_s / 2)
        return shortest, max(longest, self.interval_s)


def next_interval_s(pace: Pace, *, brought_news: bool) -> float:
    """Halved while there is news, back to what people have set when there is none, and longer
    when there was none for half an hour."""
    shortest, longest = pace.bounds
    current = min(max(pace.current_s or pace.interval_s, shortest), longest)
    if brought_news:
        return max(min(current, pace.interval_s) * SHRINK, shortest)
    if pace.idle_s is not None and pace.idle_s < IDLE_AFTER_S:
        return min(current * RECOVER, pace.interval_s)
    return min(current * STRETCH, longest)


def after_failure(now: datetime, failure: Failure, random: float) -> Decision:
    """Exponential from 2 s to 2 min, jittered to half at least; never before `retry_after_s`."""
    if failure.needs_person:
        return WaitForPerson()
    asked = failure.retry_after_s
    if asked is not None and math.isfinite(asked) and asked > 0:
        asked = min(asked, LONGEST_THROTTLE_S)
        return DueAt(now + timedelta(seconds=asked * (1 + JITTER * random)))
    return DueAt(now + timedelta(seconds=backoff_s(failure.attempts, random)))


def backoff_s(
    attempts: int,
    random: float,
    longest_s: float = LONGEST_RETRY_S,
    first_s: float = FIRST_RETRY_S,
) -> float:
    """Seconds to wait after this many failures in a row (1 or more)."""
    doubled = first_s * 2.0 ** min(max(attempts, 1) - 1, 32)
    return min(doubled, longest_s) * (0.5 + 0.5 * random)
