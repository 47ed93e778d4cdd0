"""Rolling restarts: begun and aborted by people, carried on by the master's duty."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from lifecycle.errors import Rejected, UnknownWorker
from lifecycle.models import Rollout, RolloutStep, WorkerConfig, WorkerRuntime
from lifecycle.queries import outdated
from lifecycle.queries import runtime as runtime_of
from lifecycle.rolling import (
    STEP_PATIENCE,
    Begin,
    Conclude,
    Decision,
    Finish,
    Hold,
    Limits,
    Step,
    plan,
)
from lifecycle.services.rows import in_order, notify
from lifecycle.services.wishes import request_restart
from lifecycle.types import STOP_TIMEOUT_MS, RolloutState, State, StepState, Wish

# Longer than any step may take: steps that a rollout left under way longer ago are not looked at.
LEFT_OVER = timedelta(hours=2)


def begin_rollout(
    worker_ids: Sequence[str],
    actor: str,
    *,
    max_surge: int = 1,
    max_unavailable: int = 0,
    timeout_ms: int = STOP_TIMEOUT_MS,
) -> Rollout:
    """A rolling restart of these workers, in this order.

    Raises `UnknownWorker`, `Rejected` (one runs already, nothing to do), `ValidationError`.
    """
    rollout = Rollout(
        max_surge=max_surge, max_unavailable=max_unavailable, timeout_ms=timeout_ms, actor=actor
    )
    rollout.full_clean(exclude=["finished_at"], validate_constraints=False)
    if not worker_ids:
        raise Rejected("", _("There is no worker to restart."))
    found = WorkerConfig.objects.filter(worker_id__in=worker_ids)
    configs = {config.worker_id: config for config in found}
    for worker_id in worker_ids:
        if worker_id not in configs:
            raise UnknownWorker(worker_id)
    try:
        with transaction.atomic():
            rollout.save()
            RolloutStep.objects.bulk_create(
                RolloutStep(rollout=rollout, config=configs[worker_id])
                for worker_id in dict.fromkeys(worker_ids)
            )
            notify(worker_ids[0])
    except IntegrityError as error:
        if "one_rollout_runs_at_a_time" not in str(error):
            raise
        running = Rollout.objects.filter(state=RolloutState.RUNNING).values_list("pk", flat=True)
        raise Rejected(
            "",
            _("Rolling restart %(number)s is under way; abort it or wait until it is done.")
            % {"number": running.first()},
        ) from None
    return rollout


def outdated_workers() -> list[str]:
    """Workers that run with an older config or code than there is now."""
    return list(outdated().values_list("config__worker_id", flat=True))


def abort_rollout(rollout_id: int, actor: str) -> Rollout:
    """No further worker is restarted; those under way are completed. Safe to repeat.

    Raises `Rollout.DoesNotExist`.
    """
    with transaction.atomic():
        rollout = Rollout.objects.select_for_update().get(pk=rollout_id)
        if rollout.state == RolloutState.RUNNING:
            _conclude(rollout, RolloutState.ABORTED, f"aborted by {actor}")
    return rollout


def advance_rollout(now: datetime) -> bool:
    """Carry the running rollout on by what is due. False when there is none."""
    with transaction.atomic():
        rollout = Rollout.objects.select_for_update().filter(state=RolloutState.RUNNING).first()
        if rollout is None:
            return False
        limits = Limits(rollout.max_surge, rollout.max_unavailable)
        decisions = plan(_steps(rollout), limits, now)
        begun = [decision.worker_id for decision in decisions if isinstance(decision, Begin)]
        in_order(WorkerRuntime.objects.filter(config__worker_id__in=begun))
        for decision in decisions:
            _carry_out(rollout, decision)
    return True


def _steps(rollout: Rollout) -> list[Step]:
    """Its steps, and those that an aborted one left under way. One query."""
    patience = STEP_PATIENCE + timedelta(milliseconds=rollout.timeout_ms)
    under_way = Q(
        state=StepState.SKIPPED, target_generation__isnull=False, finished_at__gt=Now() - LEFT_OVER
    )
    rows = RolloutStep.objects.filter(Q(rollout=rollout) | under_way)
    steps = []
    for row in rows.select_related("config__runtime").order_by("pk"):
        runtime = row.config.runtime
        is_leftover = row.rollout_id != rollout.pk
        # A worker that was starting when the rollout began has as long as one that it restarts.
        since = row.started_at or rollout.created_at
        steps.append(
            Step(
                step_id=row.pk,
                worker_id=row.config.worker_id,
                state=StepState.RUNNING if is_leftover else StepState(row.state),
                is_surge=row.is_surge,
                target_generation=row.target_generation,
                deadline=since + patience,
                enabled=row.config.enabled,
                wish=Wish(runtime.desired_state),
                worker_state=State(runtime.state),
                generation=runtime.generation,
                wanted_generation=runtime.wanted_generation,
                is_retiring=runtime.retiring_generation is not None,
                # A heartbeat of what goes on may have overwritten why the restart did not.
                reason=runtime.reason or runtime.last_error,
                is_leftover=is_leftover,
            )
        )
    return steps


def _carry_out(rollout: Rollout, decision: Decision) -> None:
    match decision:
        case Begin(step_id, worker_id, is_surge):
            request_restart(
                worker_id,
                f"{rollout.actor} (rolling restart {rollout.pk})",
                timeout_ms=rollout.timeout_ms,
                replace_first=is_surge,
            )
            runtime = runtime_of(worker_id)
            # One that is down starts up to date: it has only to run again.
            target = max(runtime.wanted_generation, runtime.generation)
            RolloutStep.objects.filter(pk=step_id).update(
                state=StepState.RUNNING,
                is_surge=is_surge,
                target_generation=target,
                started_at=Now(),
            )
            _say(rollout, "")
        case Hold(worker_ids):
            _say(rollout, f"waits until it is ready again: {', '.join(worker_ids)}")
        case Finish(step_id, state, message):
            RolloutStep.objects.filter(pk=step_id).update(
                state=state, message=message[:1000], finished_at=Now()
            )
        case Conclude(failed, reason):
            _conclude(rollout, RolloutState.FAILED if failed else RolloutState.DONE, reason)


def _say(rollout: Rollout, reason: str) -> None:
    """Why it does not go on; written when it changes."""
    if rollout.reason != reason[:1000]:
        rollout.reason = reason[:1000]
        rollout.save(update_fields=["reason"])


def _conclude(rollout: Rollout, state: RolloutState, reason: str) -> None:
    rollout.state, rollout.reason = state.value, reason[:1000]
    rollout.finished_at = Now()
    rollout.save()
    rollout.refresh_from_db()
    left = rollout.steps.filter(state__in=[StepState.PENDING, StepState.RUNNING])
    left.filter(state=StepState.PENDING).update(
        state=StepState.SKIPPED, message=reason[:1000], finished_at=Now()
    )
    left.filter(state=StepState.RUNNING).update(
        state=StepState.SKIPPED,
        message="its restart was under way and completes by itself",
        finished_at=Now(),
    )
