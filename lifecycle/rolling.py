"""Rolling restarts: a pure function from the steps of a rollout to what to do next [L8].

`max_surge` workers at a time may be replaced before they retire, `max_unavailable` further ones may
be stopped and started, fewer where others are down. The first failure ends the rollout: what has
not begun stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lifecycle.types import State, StepState, Wish

# Over the time to stop: what starting, getting ready and noticing may take.
STEP_PATIENCE = timedelta(seconds=90)


@dataclass(frozen=True, slots=True)
class Step:
    """One worker of a rollout, with what its runtime says now."""

    step_id: int
    worker_id: str
    state: StepState
    is_surge: bool
    target_generation: int | None
    deadline: datetime | None  # of a running step; of a pending one: for a start to be ready
    enabled: bool
    wish: Wish
    worker_state: State
    generation: int
    wanted_generation: int
    is_retiring: bool
    reason: str
    is_leftover: bool = False  # of a rollout that was aborted: it goes on, and takes up room


@dataclass(frozen=True, slots=True)
class Limits:
    max_surge: int
    max_unavailable: int


@dataclass(frozen=True, slots=True)
class Begin:
    """Ask this worker to restart."""

    step_id: int
    worker_id: str
    is_surge: bool


@dataclass(frozen=True, slots=True)
class Finish:
    """A step is over, in one of the final states."""

    step_id: int
    state: StepState
    message: str = ""


@dataclass(frozen=True, slots=True)
class Conclude:
    """The rollout is over."""

    failed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing can begin until these workers, which nobody restarts here, are ready again."""

    worker_ids: tuple[str, ...]


Decision = Begin | Finish | Conclude | Hold


def plan(steps: Sequence[Step], limits: Limits, now: datetime) -> list[Decision]:
    """What to do now, in this order; nothing: wait until something happens."""
    left = [step for step in steps if step.is_leftover and _outcome(step, now) is None]
    steps = [step for step in steps if not step.is_leftover]
    finished = [done for step in steps if (done := _outcome(step, now))]
    over = {done.step_id for done in finished}
    failures = [done for done in finished if done.state is StepState.FAILED]
    if failures:
        return [*finished, Conclude(failed=True, reason=failures[0].message)]
    going = [s for s in steps if s.state is StepState.RUNNING and s.step_id not in over]
    pending = [s for s in steps if s.state is StepState.PENDING and s.step_id not in over]
    if not going and not pending:
        return [*finished, Conclude(failed=False)]
    # One that is still starting is restarted once it runs: it may have been claimed with an older
    # config, and what is not ready can't be replaced.
    ready = [step for step in pending if step.worker_state is not State.STARTING]
    under_way = {step.step_id for step in going}
    down = [s for s in steps if s.step_id not in under_way and _is_down(s)]
    begun = list(_begin(ready, [*going, *left], len(down), limits))
    if down and not begun and not going:
        return [*finished, Hold(tuple(step.worker_id for step in down))]
    return [*finished, *begun]


def _is_down(step: Step) -> bool:
    """It should be ready and is not, through no step of a rollout."""
    wanted = step.enabled and step.wish is Wish.RUNNING
    return wanted and step.worker_state is not State.RUNNING


def _begin(
    pending: Sequence[Step], going: Sequence[Step], down: int, limits: Limits
) -> Iterator[Begin]:
    """`down` further workers are not ready: they leave less room to stop those that are. To restart
    one of them takes nothing away."""
    surging = sum(step.is_surge for step in going)
    surges = limits.max_surge - surging
    room = limits.max_unavailable - (len(going) - surging)
    for step in pending:
        is_surge, is_down = surges > 0, _is_down(step)
        if is_surge:
            surges -= 1
        elif room > (0 if is_down else down):
            room, down = room - 1, down - is_down
        else:
            continue
        yield Begin(step.step_id, step.worker_id, is_surge)


def _outcome(step: Step, now: datetime) -> Finish | None:
    """How a step ended, if it did."""
    if step.state is StepState.PENDING:
        return _outcome_of_pending(step, now)
    if step.state is not StepState.RUNNING or step.target_generation is None:
        return None
    arrived = step.generation >= step.target_generation and step.worker_state is State.RUNNING
    if arrived and not step.is_retiring:
        return Finish(step.step_id, StepState.DONE)
    if step.wish is not Wish.RUNNING or not step.enabled:
        return Finish(step.step_id, StepState.SKIPPED, "somebody stopped it meanwhile")
    if step.worker_state is State.ERROR or step.wanted_generation < step.target_generation:
        return Finish(step.step_id, StepState.FAILED, f"{step.worker_id}: {step.reason}")
    if step.deadline is not None and now >= step.deadline:
        return Finish(step.step_id, StepState.FAILED, f"{step.worker_id} took too long")
    return None


def _outcome_of_pending(step: Step, now: datetime) -> Finish | None:
    if not step.enabled or step.wish is not Wish.RUNNING:
        return Finish(step.step_id, StepState.SKIPPED, "it does not run; it starts up to date")
    is_late = step.deadline is not None and now >= step.deadline
    if is_late and step.worker_state is State.STARTING:
        why = f"{step.worker_id} is still starting: {step.reason}"
        return Finish(step.step_id, StepState.FAILED, why)
    return None
