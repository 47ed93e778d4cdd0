"""What the master plans, for every wish and fact."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.reconcile import (
    Evict,
    Halt,
    Settle,
    Spawn,
    Start,
    Stop,
    Vanished,
    View,
    Wait,
    plan,
)
from lifecycle.types import Alive, Instance, ProcessRef, State, Wish

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def alive(generation: int) -> Alive:
    return Alive(Instance("worker-1", generation), ProcessRef(100 + generation, 1, "boot"), NOW)


STOPPED = View(
    worker_id="worker-1",
    enabled=True,
    wish=Wish.STOPPED,
    wanted_generation=0,
    state=State.STOPPED,
    generation=4,
    restart_at=None,
    condemned=False,
    alive=None,
    reachable=True,
)
WANTED = replace(STOPPED, wish=Wish.RUNNING)
RUNNING = replace(WANTED, state=State.RUNNING, alive=alive(4))


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
    assert plan(replace(RUNNING, alive=None, reachable=False), NOW) == Wait()


def test_a_claimed_spawn_that_was_never_seen_is_repeated() -> None:
    view = replace(WANTED, state=State.STARTING)
    assert plan(view, NOW) == Spawn(Instance("worker-1", 4))


def test_a_running_worker_without_a_process_has_vanished() -> None:
    assert isinstance(plan(replace(RUNNING, alive=None), NOW), Vanished)


def test_a_restart_is_a_wish_for_a_newer_generation() -> None:
    assert plan(replace(RUNNING, wanted_generation=5), NOW) == Stop("asked to restart")


def test_a_crashed_worker_waits_for_its_time_then_starts() -> None:
    crashed = replace(WANTED, state=State.CRASHED, restart_at=NOW + timedelta(seconds=3))
    assert plan(crashed, NOW) == Wait(NOW + timedelta(seconds=3))
    assert plan(crashed, NOW + timedelta(seconds=3)) == Start(5)
    assert plan(replace(crashed, restart_at=None), NOW) == Wait()
    assert plan(replace(crashed, wish=Wish.STOPPED), NOW) == Settle()


def test_a_stopping_worker_is_told_again_until_it_is_gone() -> None:
    stopping = replace(RUNNING, state=State.STOPPING, wish=Wish.STOPPED)
    assert plan(stopping, NOW) == Halt(Instance("worker-1", 4))
    assert isinstance(plan(replace(stopping, alive=None), NOW), Vanished)


def test_a_condemned_worker_is_ended_but_not_stopping() -> None:
    assert plan(replace(RUNNING, condemned=True), NOW) == Halt(Instance("worker-1", 4))
    assert isinstance(plan(replace(RUNNING, condemned=True, wish=Wish.STOPPED), NOW), Stop)


def test_a_process_of_another_generation_is_evicted_first() -> None:
    assert plan(replace(RUNNING, alive=alive(3)), NOW) == Evict(Instance("worker-1", 3))
    assert plan(replace(STOPPED, alive=alive(4)), NOW) == Evict(Instance("worker-1", 4))


def test_the_system_shuts_down() -> None:
    assert isinstance(plan(RUNNING, NOW, shutting_down=True), Stop)
    assert plan(WANTED, NOW, shutting_down=True) == Wait()


views = st.builds(
    View,
    worker_id=st.just("worker-1"),
    enabled=st.booleans(),
    wish=st.sampled_from(Wish),
    wanted_generation=st.integers(0, 3),
    state=st.sampled_from(State),
    generation=st.integers(0, 3),
    restart_at=st.one_of(st.none(), st.just(NOW), st.just(NOW + timedelta(hours=1))),
    condemned=st.booleans(),
    alive=st.one_of(st.none(), st.builds(alive, st.integers(0, 3))),
    reachable=st.booleans(),
)


@given(view=views, shutting_down=st.booleans())
def test_never_a_start_beside_a_living_process(view: View, shutting_down: bool) -> None:
    """[L11] in the plan; the operating system's lock holds it in fact."""
    action = plan(view, NOW, shutting_down=shutting_down)
    if isinstance(action, Start | Spawn):
        assert view.alive is None
        assert view.enabled
        assert view.wish is Wish.RUNNING
        assert not shutting_down
