"""The circuit breaker of a platform's server [S2]: whether any of its accounts is checked at all.

Pure: `now` and `random` (a number in [0, 1)) are arguments. Rows are `models.PlatformServer`.

Closed, every account is checked. After five failures in a row, over all of its accounts, it opens:
nobody asks until `retry_at`. Then it is half open: one account tries, and closes it or opens it for
twice as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from sync.types import BreakerState

OPENS_AFTER = 5
FIRST_OPEN_S = 15.0
LONGEST_OPEN_S = 300.0
LONGEST_ASKED_S = 3600.0  # a server that asks for more is tried again after this
TRIAL_S = 60.0  # one that has told nothing by then is followed by another


@dataclass(frozen=True, slots=True)
class Breaker:
    """`failures` are in a row; the times are those of the present opening."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    opened_at: datetime | None = None
    retry_at: datetime | None = None


CLOSED = Breaker()


def failed(
    breaker: Breaker, now: datetime, random: float, retry_after_s: float | None = None
) -> Breaker:
    """The server did not answer, answered 5xx or 429. `retry_after_s`: what it asked for."""
    if breaker.state == BreakerState.OPEN:  # who began before it opened tells nothing new
        return breaker
    failures = breaker.failures + 1
    if failures < OPENS_AFTER:
        return Breaker(BreakerState.CLOSED, failures)
    wait = timedelta(seconds=open_s(failures, random, retry_after_s))
    return Breaker(BreakerState.OPEN, failures, breaker.opened_at or now, now + wait)


def open_s(failures: int, random: float, retry_after_s: float | None = None) -> float:
    """For how long it opens: doubled with each trial that failed, jittered to half at least, and
    never shorter than the server asked for (an hour at most)."""
    doubled = FIRST_OPEN_S * 2.0 ** min(max(failures - OPENS_AFTER, 0), 32)
    wait = min(doubled, LONGEST_OPEN_S) * (0.5 + 0.5 * random)
    if retry_after_s is None or not math.isfinite(retry_after_s):
        return wait
    return max(wait, min(retry_after_s, LONGEST_ASKED_S))
