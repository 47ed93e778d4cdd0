"""`sync.breaker`: when a platform's server is asked no more, and when again."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sync.breaker import (
    CLOSED,
    FIRST_OPEN_S,
    LONGEST_ASKED_S,
    LONGEST_OPEN_S,
    OPENS_AFTER,
    Breaker,
    failed,
    open_s,
)
from sync.types import BreakerState

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
randoms = st.floats(0, 1, exclude_max=True)


def after(failures: int, random: float = 0.5) -> Breaker:
    breaker = CLOSED
    for _ in range(failures):
        breaker = failed(breaker, NOON, random)
    return breaker


@given(st.integers(0, OPENS_AFTER - 1), randoms)
def test_a_few_failures_leave_it_closed(failures: int, random: float) -> None:
    assert after(failures, random) == Breaker(BreakerState.CLOSED, failures)


@given(randoms)
def test_it_opens_with_the_fifth(random: float) -> None:
    breaker = after(OPENS_AFTER, random)
    assert (breaker.state, breaker.opened_at) == (BreakerState.OPEN, NOON)
    assert breaker.retry_at is not None
    wait = (breaker.retry_at - NOON).total_seconds()
    assert FIRST_OPEN_S / 2 - 0.001 <= wait <= FIRST_OPEN_S


@given(st.integers(1, 50), randoms)
def test_failures_of_those_that_were_under_way_change_nothing(more: int, random: float) -> None:
    breaker = after(OPENS_AFTER)
    for _ in range(more):
        assert failed(breaker, NOON + timedelta(hours=1), random) == breaker


@given(st.integers(OPENS_AFTER, 10_000), randoms)
def test_a_trial_that_failed_opens_it_for_longer_with_a_cap(failures: int, random: float) -> None:
    half_open = Breaker(BreakerState.HALF_OPEN, failures, NOON, NOON)
    later = NOON + timedelta(minutes=3)
    again = failed(half_open, later, random)
    assert (again.state, again.failures) == (BreakerState.OPEN, failures + 1)
    assert again.opened_at == NOON  # the outage is the same
    assert again.retry_at is not None
    assert later < again.retry_at <= later + timedelta(seconds=LONGEST_OPEN_S)
    assert open_s(failures + 1, random) >= open_s(failures, random)


@given(st.integers(1, 100), randoms, st.floats(0.1, 1e9))
def test_what_the_server_asks_for_is_honoured(failures: int, random: float, asked: float) -> None:
    wait = open_s(failures, random, asked)
    assert wait >= min(asked, LONGEST_ASKED_S)
    assert wait <= max(LONGEST_OPEN_S, LONGEST_ASKED_S)


@given(randoms)
def test_a_senseless_wish_is_none(random: float) -> None:
    for asked in (math.nan, math.inf, -math.inf, -5.0):
        assert open_s(OPENS_AFTER, random, asked) == open_s(OPENS_AFTER, random)
