"""`sync.numbers` and `sync.hooks.throttle`: what is missing, and who is let in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sync.hooks.throttle import Throttle
from sync.numbers import MOST_STRETCHES, Stretch, follow, restarted

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@given(st.lists(st.integers(0, 200), min_size=1, unique=True), st.data())
def test_what_is_missing_is_what_never_came(arrived: list[int], data: st.DataObject) -> None:
    """Whatever the order, and however it is split; the first number begins it."""
    order = [min(arrived), *data.draw(st.permutations([n for n in arrived if n != min(arrived)]))]
    highest: int | None = None
    missing: tuple[Stretch, ...] = ()
    at = 0
    while at < len(order):
        size = data.draw(st.integers(1, len(order)))
        highest, missing = follow(highest, missing, order[at : at + size])
        at += size
    assert highest == max(arrived)
    told = {n for one in missing for n in range(one.first, one.last + 1)}
    if len(missing) < MOST_STRETCHES:
        assert told == set(range(min(arrived), max(arrived))) - set(arrived)


def test_very_many_stretches_are_told_as_few() -> None:
    _highest, missing = follow(None, (), range(0, 1000, 2))
    assert len(missing) == MOST_STRETCHES
    assert missing[0].first == 1
    assert missing[-1] == Stretch(997, 997)


def test_repeats_and_older_ones_change_nothing() -> None:
    assert follow(10, (Stretch(5, 6),), [10, 9, 1]) == (10, (Stretch(5, 6),))


def test_numbers_begin_anew_after_a_silence() -> None:
    week = timedelta(days=7)
    assert restarted(NOON - week, NOON, week)
    assert not restarted(NOON - week / 2, NOON, week)
    assert not restarted(None, NOON, week)
    assert not restarted(NOON - week, NOON, None)


def throttle() -> Throttle:
    return Throttle(rate=10, burst=3, at_once=2, in_all=3)


def test_a_rate_and_a_burst_for_each_account() -> None:
    gate = throttle()
    for _ in range(3):
        assert gate.enter(1, 0.0) == ""
        gate.leave(1, counts=True)
    assert gate.enter(1, 0.0) == "account"
    assert gate.enter(2, 0.0) == ""
    gate.leave(2, counts=True)
    assert gate.enter(1, 0.1) == ""


def test_so_many_at_once_for_one_and_in_all() -> None:
    gate = throttle()
    assert [gate.enter(1, 0.0) for _ in range(3)] == ["", "", "account"]
    assert gate.enter(2, 0.0) == ""
    assert gate.enter(3, 0.0) == "all"
    gate.leave(1, counts=True)
    assert gate.enter(3, 0.0) == ""


def test_strangers_cost_an_account_nothing_and_leave_nothing() -> None:
    gate = throttle()
    for number in range(1000):
        assert gate.enter(number, 0.0) == ""
        gate.leave(number, counts=False)
    for _ in range(100):
        assert gate.enter(7, 0.0) == ""
        gate.leave(7, counts=False)
    assert gate._buckets == {}
