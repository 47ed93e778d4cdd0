"""`sync.schedule`: when an account is checked."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.schedule import (
    LONGEST_RETRY_S,
    DueAt,
    Failure,
    WaitForPerson,
    after_failure,
    after_success,
    backoff_s,
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


def test_due_times_are_aware() -> None:
    assert after_success(NOON, 30, 0.5).at == NOON + timedelta(seconds=30)
