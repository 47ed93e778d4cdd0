"""`lifecycle.series`: what is kept for how long, and rows as points."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.agent.sampling import until_next
from lifecycle.series import PERIODS, Row, points, resolution_for

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(second: int, tasks: int = 0, errors: int = 0, **fields: float) -> Row:
    given = {"cpu_usage": 1.0, "memory_mb": 2.0, "active_tasks": 3.0, **fields}
    time = NOON + timedelta(seconds=second)
    return Row(time, tasks_total=tasks, errors_total=errors, **given)


@pytest.mark.parametrize(
    ("period", "step_s"),
    [("15m", 10), ("1h", 10), ("6h", 60), ("24h", 60), ("7d", 600), ("30d", 600)],
)
def test_a_period_is_shown_in_the_finest_steps_that_are_kept(period: str, step_s: int) -> None:
    assert resolution_for(PERIODS[period]).step_s == step_s


def test_counts_are_differences_and_errors_are_for_a_minute() -> None:
    rows = [row(0, tasks=100, errors=7), row(10, tasks=104, errors=8), row(20, tasks=104, errors=8)]
    found = list(points(rows, 10, NOON))
    assert [point.tasks for point in found] == [None, 4, 0]
    assert [point.errors_per_minute for point in found] == [None, 6.0, 0.0]


def test_the_row_before_makes_the_first_point_complete_and_is_not_shown() -> None:
    (point,) = points([row(-10, tasks=5), row(0, tasks=9)], 10, NOON)
    assert (point.time, point.tasks) == (NOON, 4)


def test_a_gap_stays_a_gap() -> None:
    """What was counted over it shows in the first step after it: nothing is lost."""
    found = list(points([row(0, tasks=1), row(600, tasks=31)], 10, NOON))
    assert [point.time for point in found] == [NOON, NOON + timedelta(seconds=600)]
    assert found[1].tasks == 30


@given(st.floats(1e9, 2e9), st.sampled_from([10.0, 60.0]))
def test_passes_come_in_the_middle_of_each_interval(wall: float, interval: float) -> None:
    wait = until_next(wall, interval)
    assert 0 < wait <= interval
    assert (wall + wait) % interval == pytest.approx(interval / 2, abs=0.001)
