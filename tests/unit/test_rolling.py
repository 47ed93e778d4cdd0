"""What a rolling restart does next [L8]."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.rolling import Begin, Conclude, Finish, Hold, Limits, Step, plan
from lifecycle.types import State, StepState, Wish

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PENDING = Step(
    step_id=1,
    worker_id="worker-1",
    state=StepState.PENDING,
    is_surge=True,
    target_generation=None,
    deadline=None,
    enabled=True,
    wish=Wish.RUNNING,
    worker_state=State.RUNNING,
    generation=3,
    wanted_generation=3,
    is_retiring=False,
    reason="",
)
GOING = replace(
    PENDING,
    state=StepState.RUNNING,
    target_generation=4,
    wanted_generation=4,
    deadline=NOW + timedelta(minutes=1),
)
ARRIVED = replace(GOING, generation=4)
ONE = Limits(max_surge=1, max_unavailable=0)


def fleet(step: Step, count: int) -> list[Step]:
    return [replace(step, step_id=n, worker_id=f"worker-{n}") for n in range(1, count + 1)]


def test_one_at_a_time() -> None:
    assert plan(fleet(PENDING, 3), ONE, NOW) == [Begin(1, "worker-1", is_surge=True)]
    assert plan([GOING, *fleet(PENDING, 3)[1:]], ONE, NOW) == []


def test_the_next_begins_when_the_last_has_arrived_and_its_old_process_has_retired() -> None:
    second = fleet(PENDING, 2)[1]
    assert plan([replace(ARRIVED, is_retiring=True), second], ONE, NOW) == []
    assert plan([ARRIVED, second], ONE, NOW) == [
        Finish(1, StepState.DONE),
        Begin(2, "worker-2", is_surge=True),
    ]


def test_surge_first_then_those_that_may_be_down() -> None:
    begun = plan(fleet(PENDING, 5), Limits(max_surge=1, max_unavailable=2), NOW)
    assert [one.is_surge for one in begun if isinstance(one, Begin)] == [True, False, False]


def test_the_last_one_ends_it() -> None:
    assert plan([ARRIVED], ONE, NOW)[-1] == Conclude(failed=False)


def test_the_first_failure_ends_it() -> None:
    called_off = replace(GOING, wanted_generation=3, reason="restart called off: exit code 3")
    decisions = plan([called_off, *fleet(PENDING, 3)[1:]], ONE, NOW)
    assert decisions[-1] == Conclude(
        failed=True, reason="worker-1: restart called off: exit code 3"
    )
    assert not [one for one in decisions if isinstance(one, Begin)]


def test_one_that_takes_too_long_fails() -> None:
    (finish, conclude) = plan([GOING], ONE, NOW + timedelta(minutes=1))
    assert finish == Finish(1, StepState.FAILED, "worker-1 took too long")
    assert conclude == Conclude(failed=True, reason="worker-1 took too long")


def test_workers_that_do_not_run_are_skipped() -> None:
    stopped = replace(PENDING, wish=Wish.STOPPED, worker_state=State.STOPPED)
    assert plan([stopped], ONE, NOW) == [
        Finish(1, StepState.SKIPPED, "it does not run; it starts up to date"),
        Conclude(failed=False),
    ]


def test_one_that_starts_is_restarted_once_it_runs() -> None:
    """It may have been claimed with the config that was before: that is not done."""
    starting = replace(PENDING, worker_state=State.STARTING, deadline=NOW + timedelta(minutes=1))
    other = replace(PENDING, step_id=2, worker_id="worker-2")
    assert plan([starting, other], ONE, NOW) == [Begin(2, "worker-2", is_surge=True)]
    assert plan([starting], ONE, NOW) == [Hold(("worker-1",))]
    assert plan([replace(starting, worker_state=State.RUNNING)], ONE, NOW) == [
        Begin(1, "worker-1", is_surge=True)
    ]


def test_one_that_never_gets_ready_ends_it() -> None:
    starting = replace(
        PENDING, worker_state=State.STARTING, deadline=NOW, reason="waiting for broker"
    )
    assert plan([starting], ONE, NOW)[-1] == Conclude(
        failed=True, reason="worker-1 is still starting: waiting for broker"
    )


def test_what_an_aborted_rollout_left_under_way_takes_up_room() -> None:
    left = replace(GOING, step_id=9, worker_id="worker-9", is_leftover=True)
    assert plan([left, *fleet(PENDING, 2)], ONE, NOW) == []
    begun = plan([left, *fleet(PENDING, 2)], Limits(max_surge=2, max_unavailable=0), NOW)
    assert begun == [Begin(1, "worker-1", is_surge=True)]
    arrived = replace(left, generation=4)
    assert plan([arrived, *fleet(PENDING, 2)], ONE, NOW) == [Begin(1, "worker-1", is_surge=True)]


def test_those_that_are_down_leave_less_room() -> None:
    """Never fewer ready ones than the limits say, whoever brought them down."""
    crashed = replace(PENDING, step_id=3, worker_id="worker-3", worker_state=State.CRASHED)
    one_down = Limits(max_surge=0, max_unavailable=1)
    assert plan([*fleet(PENDING, 2), crashed], one_down, NOW) == [Begin(3, "worker-3", False)]
    done = replace(crashed, state=StepState.DONE)
    assert plan([*fleet(PENDING, 2), done], one_down, NOW) == [Hold(("worker-3",))]
    assert plan([GOING, *fleet(PENDING, 2)[1:], done], one_down, NOW) == []
    two_down = Limits(max_surge=0, max_unavailable=2)
    assert plan([*fleet(PENDING, 2), done], two_down, NOW) == [Begin(1, "worker-1", False)]
    assert plan([*fleet(PENDING, 2), done], ONE, NOW) == [Begin(1, "worker-1", True)]


steps = st.builds(
    replace,
    st.sampled_from([PENDING, GOING, ARRIVED, replace(ARRIVED, state=StepState.DONE)]),
    is_surge=st.booleans(),
    wish=st.sampled_from(Wish),
    is_retiring=st.booleans(),
    is_leftover=st.booleans(),
)


@given(
    steps=st.lists(steps, max_size=12),
    surge=st.integers(0, 4),
    down=st.integers(0, 4),
)
def test_never_more_at_a_time_than_the_limits_allow(
    steps: list[Step], surge: int, down: int
) -> None:
    steps = [replace(step, step_id=n) for n, step in enumerate(steps)]
    decisions = plan(steps, Limits(surge, down), NOW)
    ended = {one.step_id for one in decisions if isinstance(one, Finish)}
    assert not ended & {step.step_id for step in steps if step.is_leftover}
    gone = {
        step.step_id
        for step in steps
        if step.is_leftover and plan([replace(step, is_leftover=False)], ONE, NOW)
    }
    going = [s for s in steps if s.state is StepState.RUNNING and s.step_id not in ended | gone]
    begun = [one for one in decisions if isinstance(one, Begin)]
    for is_surge, limit in ((True, surge), (False, down)):
        before = sum(s.is_surge is is_surge for s in going)
        more = sum(b.is_surge is is_surge for b in begun)
        assert more == 0 or before + more <= limit
