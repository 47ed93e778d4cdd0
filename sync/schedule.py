"""When an account is checked again, and for how long a check waits for news.

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

SHORTEST_WAIT_S = 10.0
LONGEST_WAIT_S = 25.0
BLOCKING_WAIT_S = 5.0  # prefork and solo: nothing can end the wait early when the worker stops
CROWDED_WAIT_S = 1.0


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


def after_success(now: datetime, interval_s: float, random: float, *, can_wait: bool) -> DueAt:
    """At once where the adapter can wait for news; else after the interval, spread by ±10 %."""
    if can_wait:
        return DueAt(now)
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


def wait_s(interval_s: float, *, blocking: bool, accounts: int, slots: int) -> float:
    """How long one check waits for news (s).

    `accounts` share the worker's `slots`: where they are more, each waits for its part, so that all
    have their turn within about an interval. `blocking`: nothing can end the wait early.
    """
    longest = BLOCKING_WAIT_S if blocking else LONGEST_WAIT_S
    wait = min(max(interval_s, SHORTEST_WAIT_S), longest)
    if accounts > slots:
        wait = max(wait * slots / accounts, CROWDED_WAIT_S)
    return wait
