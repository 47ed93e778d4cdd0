"""`sync.schedule`: when an account is checked, for how long, and where it lives."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.schedule import (
    LONGEST_RETRY_S,
    DueAt,
    Failure,
    Move,
    Place,
    Slot,
    WaitForPerson,
    after_failure,
    after_success,
    assign,
    backoff_s,
    wait_s,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
randoms = st.floats(0, 1, exclude_max=True)


def seconds(decision: object) -> float:
    assert isinstance(decision, DueAt)
    return (decision.at - NOON).total_seconds()


@given(st.integers(5, 86_400), randoms)
def test_the_interval_is_spread_by_a_tenth(interval: int, random: float) -> None:
    due = seconds(after_success(NOON, interval, random, can_wait=False))
    assert 0.9 * interval - 0.001 <= due <= 1.1 * interval + 0.001


def test_an_adapter_that_can_wait_is_asked_again_at_once() -> None:
    assert after_success(NOON, 30, 0.7, can_wait=True) == DueAt(NOON)


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


@pytest.mark.parametrize(
    ("interval", "blocking", "accounts", "slots", "expected"),
    [
        (5, False, 1, 10, 10),
        (20, False, 10, 10, 20),
        (300, False, 1, 10, 25),
        (300, True, 1, 2, 5),
        (30, False, 100, 10, 2.5),
        (30, False, 5000, 10, 1),
    ],
)
def test_how_long_a_check_waits(
    interval: int, blocking: bool, accounts: int, slots: int, expected: float
) -> None:
    assert wait_s(interval, blocking=blocking, accounts=accounts, slots=slots) == expected


# --- assignment -------------------------------------------------------------------------------


def slot(worker: int, load: int = 0, most: int = 10, **fields: bool) -> Slot:
    return Slot(worker, fields.get("ready", True), fields.get("returning", False), most, load)


def test_the_least_loaded_worker_comes_first_then_the_lower_id() -> None:
    accounts = [Place(n, 0, None) for n in (1, 2, 3, 4)]
    moves = assign(accounts, [slot(1, load=1), slot(2), slot(3)])
    assert [(m.account_id, m.worker) for m in moves] == [(1, 2), (2, 3), (3, 1), (4, 2)]


def test_accounts_of_a_ready_worker_stay() -> None:
    assert assign([Place(1, 0, 1)], [slot(1, load=1), slot(2)]) == []


def test_accounts_of_a_gone_worker_move() -> None:
    moves = assign([Place(1, 7, 1)], [slot(1, load=1, ready=False), slot(2)])
    assert moves == [Move(1, 7, 2)]


def test_accounts_of_a_returning_worker_stay() -> None:
    assert assign([Place(1, 7, 1)], [slot(1, load=1, ready=False, returning=True), slot(2)]) == []


def test_without_room_accounts_stay_where_they_are() -> None:
    workers = [slot(1, load=1, ready=False), slot(2, load=10)]
    assert assign([Place(1, 7, 1), Place(2, 0, None)], workers) == []


def test_too_many_accounts_move_or_wait() -> None:
    accounts = [Place(n, 0, 1) for n in range(1, 5)]
    moves = assign(accounts, [slot(1, load=4, most=1), slot(2, load=8)])
    assert moves == [Move(2, 0, 2), Move(3, 0, 2), Move(4, 0, None)]


def test_a_worker_that_may_hold_none_gets_none() -> None:
    assert assign([Place(1, 0, None)], [slot(1, most=0)]) == []


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Place], list[Slot]]:
    count = draw(st.integers(0, 5))
    homes = draw(st.lists(st.sampled_from([None, *range(count)]), max_size=30))
    accounts = [Place(n, draw(st.integers(0, 3)), home) for n, home in enumerate(homes)]
    loads = Counter(homes)
    workers = [
        slot(
            number,
            load=loads[number],
            most=draw(st.integers(0, 8)),
            ready=draw(st.booleans()),
            returning=draw(st.booleans()),
        )
        for number in range(count)
    ]
    return accounts, workers


def after(accounts: list[Place], moves: list[Move]) -> list[Place]:
    moved = {move.account_id: move for move in moves}
    return [
        Place(a.account_id, a.epoch + 1, moved[a.account_id].worker) if a.account_id in moved else a
        for a in accounts
    ]


def with_loads(accounts: list[Place], workers: list[Slot]) -> list[Slot]:
    loads = Counter(account.worker for account in accounts)
    return [Slot(w.worker, w.ready, w.returning, w.max_accounts, loads[w.worker]) for w in workers]


@given(fleets())
def test_assignment_properties(fleet: tuple[list[Place], list[Slot]]) -> None:
    accounts, workers = fleet
    moves = assign(accounts, workers)
    result = after(accounts, moves)
    loads = Counter(account.worker for account in result)
    ready = {w.worker: w for w in workers if w.ready}
    # never more than a worker may hold, and only running workers are given anything
    assert all(loads[w.worker] <= w.max_accounts for w in ready.values())
    assert all(move.worker is None or move.worker in ready for move in moves)
    # nobody waits while there is room
    room = sum(w.max_accounts - loads[w.worker] for w in ready.values())
    returning = {w.worker for w in workers if w.returning and not w.ready}
    waiting = [a for a in result if a.worker not in ready and a.worker not in returning]
    assert not (room and waiting)
    # minimal: nobody moves from a place that is good, and a second look changes nothing
    surplus = sum(max(w.load - w.max_accounts, 0) for w in ready.values())
    assert sum(1 for m in moves if accounts[m.account_id].worker in ready) == surplus
    assert assign(result, with_loads(result, workers)) == []
    # the order in which rows come decides nothing
    assert assign(list(reversed(accounts)), list(reversed(workers))) == moves


def test_ten_thousand_accounts_are_assigned_quickly() -> None:
    accounts = [Place(n, 0, None) for n in range(10_000)]
    moves = assign(accounts, [slot(n, most=200) for n in range(50)])
    assert len(moves) == 10_000
    assert set(Counter(m.worker for m in moves).values()) == {200}


def test_due_times_are_aware() -> None:
    assert after_success(NOON, 30, 0.5, can_wait=False).at == NOON + timedelta(seconds=30)
