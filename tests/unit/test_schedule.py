"""`sync.schedule`: when an account is checked."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.schedule import (
    LONGEST_RETRY_S,
    SHORTEST_INTERVAL_S,
    DueAt,
    Failure,
    Pace,
    WaitForPerson,
    after_failure,
    after_success,
    backoff_s,
    first_audit,
    next_interval_s,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
randoms = st.floats(0, 1, exclude_max=True)


def seconds(decision: object) -> float:
    assert isinstance(decision, DueAt)
    return (decision.at - NOON).total_seconds()


@given(st.integers(5, 86_400), randoms)
def test_the_interval_is_spread_by_a_tenth(interval: int, random: float) -> None:
    due = seconds(after_success(NOON, interval, random))
    assert 0.9 * interval - 0.001 <= due <= 1.1 * interval + 0.001


@given(st.integers(1, 10_000), randoms)
def test_errors_back_off_with_a_cap(attempts: int, random: float) -> None:
    wait = seconds(after_failure(NOON, Failure(attempts), random))
    assert 1 <= wait <= LONGEST_RETRY_S
    assert backoff_s(attempts + 1, random) >= backoff_s(attempts, random)


def test_the_backoff_doubles() -> None:
    assert [backoff_s(n, 1.0) for n in (1, 2, 3, 4)] == [2, 4, 8, 16]


@given(st.floats(0.1, 3600), randoms, st.integers(1, 50))
def test_retry_after_is_honoured(asked: float, random: float, attempts: int) -> None:
    wait = seconds(after_failure(NOON, Failure(attempts, retry_after_s=asked), random))
    assert asked - 0.001 <= wait <= 1.1 * asked + 0.001


@pytest.mark.parametrize("asked", [math.nan, math.inf, -1.0, 0.0])
def test_a_senseless_retry_after_backs_off(asked: float) -> None:
    assert seconds(after_failure(NOON, Failure(1, retry_after_s=asked), 0.0)) == 1


def test_a_wrong_password_waits_for_a_person() -> None:
    assert after_failure(NOON, Failure(1, needs_person=True), 0.5) == WaitForPerson()


paces = st.builds(
    Pace,
    st.floats(5, 86_400),
    st.floats(60, 86_400),
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 1e7),
)


@given(paces, st.booleans())
def test_an_interval_stays_within_its_bounds(pace: Pace, news: bool) -> None:
    shortest, longest = pace.bounds
    assert SHORTEST_INTERVAL_S <= shortest <= pace.interval_s <= longest <= 4 * pace.interval_s
    assert shortest <= next_interval_s(pace, brought_news=news) <= longest


@given(paces)
def test_news_never_make_it_slower_and_their_absence_never_faster_than_people_want(
    pace: Pace,
) -> None:
    assert next_interval_s(pace, brought_news=True) <= pace.interval_s
    quiet = next_interval_s(pace, brought_news=False)
    assert quiet >= next_interval_s(pace, brought_news=True)


@given(paces)
def test_it_settles(pace: Pace) -> None:
    for news, settled in ((True, pace.bounds[0]), (False, pace.bounds[1])):
        current = pace.current_s
        for _ in range(60):
            current = next_interval_s(
                replace(pace, current_s=current, idle_s=None), brought_news=news
            )
        assert current == pytest.approx(settled)


def test_an_idle_account_is_not_stretched_until_it_looks_stalled() -> None:
    assert Pace(interval_s=100, stalled_after_s=300).bounds == (25, 150)
    assert Pace(interval_s=600, stalled_after_s=300).bounds == (150, 600)


def test_after_a_burst_it_goes_back_to_what_people_want() -> None:
    pace, seen = Pace(60, 300, current_s=15, idle_s=10), []
    for _ in range(5):
        seen.append(next_interval_s(pace, brought_news=False))
        pace = replace(pace, current_s=seen[-1])
    assert seen == [22.5, 33.75, 50.625, 60, 60]


def test_due_times_are_aware() -> None:
    assert after_success(NOON, 30, 0.5).at == NOON + timedelta(seconds=30)


def test_first_audits_are_spread_over_the_interval() -> None:
    waits = [(first_audit(NOON, 21_600, part / 100) - NOON).total_seconds() for part in range(100)]
    assert waits == [pytest.approx(216.0 * part) for part in range(100)]
