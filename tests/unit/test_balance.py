"""`lifecycle.balance`: which worker holds which account [L15]."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.balance import Absences, Move, Place, Slot, Strategy, balance

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLATFORMS = ["matrix", "rocketchat", "mattermost"]


def slot(worker: int, load: int = 0, most: int = 10, **fields: bool) -> Slot:
    return Slot(worker, fields.get("ready", True), fields.get("returning", False), most, load)


def test_the_least_loaded_worker_comes_first_then_the_lower_id() -> None:
    accounts = [Place(n, 0, None) for n in (1, 2, 3, 4)]
    moves = balance(accounts, [slot(1, load=1), slot(2), slot(3)])
    assert [(m.account_id, m.worker) for m in moves] == [(1, 2), (2, 3), (3, 1), (4, 2)]


def test_accounts_of_a_ready_worker_stay() -> None:
    assert balance([Place(1, 0, 1)], [slot(1, load=1), slot(2)]) == []


def test_accounts_of_a_gone_worker_move() -> None:
    moves = balance([Place(1, 7, 1)], [slot(1, load=1, ready=False), slot(2)])
    assert moves == [Move(1, 7, 2)]


def test_accounts_of_a_returning_worker_stay() -> None:
    assert balance([Place(1, 7, 1)], [slot(1, load=1, ready=False, returning=True), slot(2)]) == []


def test_without_room_accounts_stay_where_they_are() -> None:
    workers = [slot(1, load=1, ready=False), slot(2, load=10)]
    assert balance([Place(1, 7, 1), Place(2, 0, None)], workers) == []


def test_too_many_accounts_move_or_wait() -> None:
    accounts = [Place(n, 0, 1) for n in range(1, 5)]
    moves = balance(accounts, [slot(1, load=4, most=1), slot(2, load=8)])
    assert moves == [Move(2, 0, 2), Move(3, 0, 2), Move(4, 0, None)]


def test_a_worker_that_may_hold_none_gets_none() -> None:
    assert balance([Place(1, 0, None)], [slot(1, most=0)]) == []


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Place], list[Slot]]:
    count = draw(st.integers(0, 5))
    homes = draw(st.lists(st.sampled_from([None, *range(count)]), max_size=30))
    platforms = st.sampled_from(PLATFORMS)
    accounts = [
        Place(n, draw(st.integers(0, 3)), home, draw(platforms)) for n, home in enumerate(homes)
    ]
    workers = [
        slot(
            number,
            most=draw(st.integers(0, 8)),
            ready=draw(st.booleans()),
            returning=draw(st.booleans()),
        )
        for number in range(count)
    ]
    return accounts, with_loads(accounts, workers)


def after(accounts: list[Place], moves: list[Move]) -> list[Place]:
    moved = {move.account_id: move.worker for move in moves}
    return [
        Place(a.account_id, a.epoch + 1, moved[a.account_id], a.platform)
        if a.account_id in moved
        else a
        for a in accounts
    ]


def with_loads(accounts: list[Place], workers: list[Slot]) -> list[Slot]:
    loads = Counter(account.worker for account in accounts)
    held = Counter((account.worker, account.platform) for account in accounts)
    return [
        Slot(
            w.worker,
            w.ready,
            w.returning,
            w.max_accounts,
            loads[w.worker],
            {name: held[w.worker, name] for name in PLATFORMS},
        )
        for w in workers
    ]


@given(fleets(), st.sampled_from(Strategy), st.none() | st.integers(0, 5))
def test_what_holds_for_every_strategy(
    fleet: tuple[list[Place], list[Slot]], strategy: Strategy, last: int | None
) -> None:
    accounts, workers = fleet
    moves = balance(accounts, workers, strategy, last)
    result = after(accounts, moves)
    loads = Counter(account.worker for account in result)
    ready = {w.worker: w for w in workers if w.ready}
    # never more than a worker may hold, and only ready workers are given anything
    assert all(loads[w.worker] <= w.max_accounts for w in ready.values())
    assert all(move.worker is None or move.worker in ready for move in moves)
    # nobody waits while there is room
    room = sum(w.max_accounts - loads[w.worker] for w in ready.values())
    returning = {w.worker for w in workers if w.returning and not w.ready}
    waiting = [a for a in result if a.worker not in ready and a.worker not in returning]
    assert not (room and waiting)
    # minimal: each account moves at most once, nobody from a place that is good, or to where it is,
    # and a second look changes nothing
    assert len({move.account_id for move in moves}) == len(moves)
    surplus = sum(max(w.load - w.max_accounts, 0) for w in ready.values())
    assert sum(1 for m in moves if accounts[m.account_id].worker in ready) == surplus
    assert all(accounts[m.account_id].worker not in returning for m in moves)
    assert all(accounts[m.account_id].worker != m.worker for m in moves)
    for other in Strategy:  # nor does another strategy
        assert balance(result, with_loads(result, workers), other) == []
    # the order in which rows come decides nothing
    assert balance(accounts[::-1], workers[::-1], strategy, last) == moves


def test_round_robin_goes_on_after_the_last_one() -> None:
    accounts = [Place(n, 0, None) for n in range(5)]
    workers = [slot(1, load=3), slot(2, load=9), slot(3)]
    moves = balance(accounts, workers, Strategy.ROUND_ROBIN, last=1)
    assert [move.worker for move in moves] == [2, 3, 1, 3, 1]  # 2 is full after one


@pytest.mark.parametrize(("last", "first"), [(None, 1), (2, 3), (3, 1), (99, 1)])
def test_round_robin_begins_anew_at_the_end(last: int | None, first: int) -> None:
    workers = [slot(1), slot(2), slot(3)]
    (move,) = balance([Place(1, 0, None)], workers, Strategy.ROUND_ROBIN, last)
    assert move.worker == first


def test_sticky_keeps_a_platform_together() -> None:
    workers = [
        Slot(1, True, False, 4, 3, {"matrix": 1, "rocketchat": 2}),
        Slot(2, True, False, 10, 5, {"matrix": 5}),
        Slot(3, True, False, 10, 0),
    ]
    accounts = [
        Place(n, 0, None, name)
        for n, name in enumerate(["matrix", "rocketchat", "rocketchat", "rocketchat", "new"])
    ]
    moves = balance(accounts, workers, Strategy.STICKY)
    # worker 1 is full after one more; the platform then gathers on the least loaded
    assert [move.worker for move in moves] == [2, 1, 3, 3, 3]


@pytest.mark.parametrize("strategy", Strategy)
def test_ten_thousand_accounts_are_assigned_quickly(strategy: Strategy) -> None:
    accounts = [Place(n, 0, None, PLATFORMS[n % 3]) for n in range(10_000)]
    moves = balance(accounts, [slot(n, most=200) for n in range(50)], strategy)
    assert len(moves) == 10_000
    assert set(Counter(m.worker for m in moves).values()) == {200}


# --- how long accounts wait for their worker ---------------------------------------------------


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_patience_counts_from_when_the_absence_was_seen() -> None:
    absences = Absences(timedelta(seconds=4))
    absences.see({1: True, 2: False}, NOON)
    assert absences.ends_at(1) is None
    absences.see({1: False, 2: False}, at(3))
    assert (absences.ends_at(1), absences.ends_at(2)) == (at(7), at(4))


def test_patience_begins_anew_only_when_the_worker_was_ready_again() -> None:
    absences = Absences(timedelta(seconds=4))
    for second in range(3):  # it starts and crashes again and again
        absences.see({1: False}, at(second))
    assert absences.ends_at(1) == at(4)
    absences.see({1: True}, at(3))
    absences.see({1: False}, at(5))
    assert absences.ends_at(1) == at(9)
