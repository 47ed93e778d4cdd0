"""What the master plans, for every wish and fact."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.reconcile import (
    SPAWN_PATIENCE,
    SUCCESSOR_PATIENCE,
    UNSEEN_PATIENCE_S,
    CallOff,
    Evict,
    GiveUp,
    Halt,
    Settle,
    Spawn,
    Start,
    Stop,
    Succeed,
    Vanished,
    View,
    Wait,
    plan,
    troubled,
)
from lifecycle.types import Exit, Instance, State, Wish

NOW = datetime(2026, 1, 1, tzinfo=UTC)


STOPPED = View(
    worker_id="worker-1",
    enabled=True,
    wish=Wish.STOPPED,
    wanted_generation=0,
    replace_first=False,
    state=State.STOPPED,
    generation=4,
    last_generation=4,
    successor=None,
    successor_since=None,
    retiring=None,
    restart_at=None,
    condemned=False,
    alive=frozenset(),
    reachable=True,
)
WANTED = replace(STOPPED, wish=Wish.RUNNING)
RUNNING = replace(WANTED, state=State.RUNNING, alive=frozenset({4}))


def test_nothing_to_do() -> None:
    assert plan(STOPPED, NOW) == Wait()
    assert plan(RUNNING, NOW) == Wait()


def test_a_wanted_worker_is_started_as_the_next_generation() -> None:
    assert plan(WANTED, NOW) == Start(5)


def test_a_disabled_worker_is_not_started_and_a_running_one_is_stopped() -> None:
    assert plan(replace(WANTED, enabled=False), NOW) == Wait()
    assert isinstance(plan(replace(RUNNING, enabled=False), NOW), Stop)


def test_nothing_starts_while_the_backend_is_away() -> None:
    assert plan(replace(WANTED, reachable=False), NOW) == Wait()
    assert plan(replace(RUNNING, alive=frozenset(), reachable=False), NOW) == Wait()


def test_a_claimed_spawn_that_was_never_seen_is_repeated() -> None:
    view = replace(WANTED, state=State.STARTING)
    assert plan(view, NOW) == Spawn(Instance("worker-1", 4))


def test_a_spawn_that_nobody_wants_any_more_is_a_stop_and_no_crash() -> None:
    """[L6]"""
    view = replace(STOPPED, state=State.STARTING)
    assert plan(view, NOW) == Stop("asked to stop")
    assert plan(replace(view, state=State.STOPPING), NOW) == Vanished(view.instance, Exit())


def test_a_running_worker_without_a_process_has_vanished() -> None:
    assert isinstance(plan(replace(RUNNING, alive=frozenset()), NOW), Vanished)


@pytest.mark.parametrize("state", [State.RUNNING, State.STOPPING])
def test_one_that_is_not_seen_yet_is_waited_for_a_moment(state: State) -> None:
    """It may be ahead of its agent: it says that it is ready before its record was found."""
    unseen = replace(RUNNING, state=state, alive=frozenset(), unseen_s=0.5)
    left = timedelta(seconds=UNSEEN_PATIENCE_S - 0.5)
    assert plan(unseen, NOW) == Wait(NOW + left)
    assert isinstance(plan(replace(unseen, unseen_s=UNSEEN_PATIENCE_S), NOW), Vanished)


def test_a_restart_is_a_wish_for_a_newer_generation() -> None:
    assert plan(replace(RUNNING, wanted_generation=5), NOW) == Stop("asked to restart")


def test_a_crashed_worker_waits_for_its_time_then_starts() -> None:
    crashed = replace(WANTED, state=State.CRASHED, restart_at=NOW + timedelta(seconds=3))
    assert plan(crashed, NOW) == Wait(NOW + timedelta(seconds=3))
    assert plan(crashed, NOW + timedelta(seconds=3)) == Start(5)
    assert plan(replace(crashed, restart_at=None), NOW) == Wait()
    assert plan(replace(crashed, wish=Wish.STOPPED), NOW) == Settle()


def test_a_restart_whose_claim_the_database_lost_is_claimed_again() -> None:
    """[L10] It lives, and is not ended for that."""
    lost = replace(WANTED, state=State.CRASHED, restart_at=None, alive=frozenset({5}))
    assert plan(lost, NOW) == Start(5)
    for view in (replace(lost, wish=Wish.STOPPED), replace(lost, state=State.ERROR)):
        assert plan(view, NOW) == Evict(Instance("worker-1", 5))


def test_a_stopping_worker_is_told_again_until_it_is_gone() -> None:
    stopping = replace(RUNNING, state=State.STOPPING, wish=Wish.STOPPED)
    assert plan(stopping, NOW) == Halt(Instance("worker-1", 4))
    assert isinstance(plan(replace(stopping, alive=frozenset()), NOW), Vanished)


def test_a_condemned_worker_is_ended_but_not_stopping() -> None:
    assert plan(replace(RUNNING, condemned=True), NOW) == Halt(Instance("worker-1", 4))
    assert isinstance(plan(replace(RUNNING, condemned=True, wish=Wish.STOPPED), NOW), Stop)


def test_a_process_of_another_generation_is_evicted_first() -> None:
    assert plan(replace(RUNNING, alive=frozenset({3, 4})), NOW) == Evict(Instance("worker-1", 3))
    assert plan(replace(STOPPED, alive=frozenset({4})), NOW) == Evict(Instance("worker-1", 4))


def test_the_system_shuts_down() -> None:
    assert isinstance(plan(RUNNING, NOW, shutting_down=True), Stop)
    assert plan(WANTED, NOW, shutting_down=True) == Wait()


views = st.builds(
    View,
    worker_id=st.just("worker-1"),
    enabled=st.booleans(),
    wish=st.sampled_from(Wish),
    wanted_generation=st.integers(0, 5),
    state=st.sampled_from(State),
    generation=st.just(3),
    last_generation=st.integers(3, 4),
    replace_first=st.booleans(),
    successor=st.sampled_from([None, 4]),
    successor_since=st.sampled_from([None, NOW - timedelta(hours=1), NOW]),
    retiring=st.sampled_from([None, 2]),
    restart_at=st.one_of(st.none(), st.just(NOW), st.just(NOW + timedelta(hours=1))),
    condemned=st.booleans(),
    alive=st.frozensets(st.integers(1, 5), max_size=3),
    reachable=st.booleans(),
)


@given(view=views, shutting_down=st.booleans())
def test_never_a_start_beside_a_living_process(view: View, shutting_down: bool) -> None:
    """[L11] in the plan; the operating system's lock holds it in fact."""
    action = plan(view, NOW, shutting_down=shutting_down)
    if isinstance(action, Start | Spawn | Succeed):
        assert view.enabled
        assert view.wish is Wish.RUNNING
        assert not shutting_down
    if isinstance(action, Start) and view.reachable:
        assert view.alive <= {action.generation}
    if isinstance(action, Succeed):
        assert view.alive == {view.generation}
        assert view.successor is None


# --- replace before retire [L8] ---

RESTARTING = replace(RUNNING, replace_first=True, wanted_generation=5)
SUCCEEDING = replace(
    RESTARTING, successor=5, last_generation=5, successor_since=NOW, alive=frozenset({4, 5})
)
RETIRING = replace(RUNNING, generation=5, last_generation=5, retiring=4, alive=frozenset({4, 5}))


def test_a_graceful_restart_starts_the_successor_first() -> None:
    assert plan(RESTARTING, NOW) == Succeed(5)


def test_a_successor_that_was_never_seen_is_spawned_again() -> None:
    view = replace(SUCCEEDING, alive=frozenset({4}))
    assert plan(view, NOW) == Spawn(Instance("worker-1", 5))


def test_a_successor_has_time_to_be_ready_and_no_more() -> None:
    assert plan(SUCCEEDING, NOW) == Wait(NOW + SUCCESSOR_PATIENCE)
    assert isinstance(plan(SUCCEEDING, NOW + SUCCESSOR_PATIENCE), CallOff)


def test_the_old_instance_retires_while_the_new_one_runs() -> None:
    assert plan(RETIRING, NOW) == Halt(Instance("worker-1", 4))
    gone = replace(RETIRING, alive=frozenset({5}))
    assert plan(gone, NOW) == Vanished(Instance("worker-1", 4), Exit())


def test_a_second_restart_waits_until_the_first_is_complete() -> None:
    view = replace(RETIRING, wanted_generation=6, replace_first=True)
    assert plan(view, NOW) == Halt(Instance("worker-1", 4))


def test_a_stop_in_the_middle_ends_all_of_it() -> None:
    view = replace(SUCCEEDING, wish=Wish.STOPPED)
    assert isinstance(plan(view, NOW), Stop)
    stopping = replace(view, state=State.STOPPING, successor=None)
    assert plan(stopping, NOW) == Evict(Instance("worker-1", 5))


def test_nothing_starts_beside_one_that_still_retires() -> None:
    view = replace(RETIRING, state=State.STOPPED, alive=frozenset({4}))
    assert plan(view, NOW) == Halt(Instance("worker-1", 4))


CLAIMED = replace(RUNNING, state=State.STARTING, alive=frozenset())


def test_a_start_that_fails_is_tried_less_and_less_often_and_then_given_up() -> None:
    """[L6] A backend that answers but can't: never in a hot loop, never for ever."""
    now, trouble, waits = NOW, None, []
    while True:
        action = plan(replace(CLAIMED, trouble=trouble), now)
        if not isinstance(action, Spawn):
            break
        trouble = troubled(trouble, 4, "its lock is held", now, 0.5)
        assert plan(replace(CLAIMED, trouble=trouble), now) == Wait(trouble.retry_at)
        waits.append((trouble.retry_at - now).total_seconds())
        now = trouble.retry_at
    assert waits[:4] == [1.125, 2.25, 4.5, 9.0]
    assert waits == sorted(waits)
    assert max(waits) == 30
    assert action == GiveUp(
        Instance("worker-1", 4), "could not be started for 300 s: its lock is held"
    )
    assert now - NOW < SPAWN_PATIENCE + timedelta(seconds=30)


def test_trouble_with_one_generation_is_none_of_the_next() -> None:
    trouble = troubled(None, 3, "busy", NOW, 0.0)
    assert plan(replace(CLAIMED, trouble=trouble), NOW) == Spawn(Instance("worker-1", 4))
    assert troubled(trouble, 4, "busy", NOW, 0.0).attempts == 1


def test_a_successor_that_cannot_be_started_is_called_off() -> None:
    view = replace(RUNNING, wanted_generation=5, last_generation=5, successor=5)
    trouble = troubled(None, 5, "the disk is full", NOW, 0.0)
    assert plan(replace(view, trouble=trouble), NOW) == Wait(trouble.retry_at)
    assert plan(replace(view, trouble=trouble), NOW + SUCCESSOR_PATIENCE) == CallOff(
        "could not be started for 60 s: the disk is full"
    )
