"""Reports: what a worker says of itself."""

from __future__ import annotations

from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from lifecycle.consumption import Consumption
from lifecycle.errors import LostRace
from lifecycle.models import WorkerRuntime
from lifecycle.services.replacement import take_over
from lifecycle.services.rows import Role, belonging, move, notify, record
from lifecycle.task_failures import Failures
from lifecycle.types import Event, Instance, Level

CONSUMES = Consumption()


def ready(instance: Instance, versions: dict[str, str], queues: tuple[str, ...] = ()) -> None:
    """The worker consumes its `queues`. `versions`: worker, python, celery.

    A successor that is ready takes its worker's place.
    """
    with belonging(instance) as (runtime, role):
        if role is Role.RETIRING:
            raise LostRace(f"{instance} retires already")
        runtime.ready_at = timezone.now()
        runtime.last_heartbeat_at = Now()
        runtime.worker_version = versions["worker"]
        runtime.python_version = versions["python"]
        runtime.celery_version = versions["celery"]
        runtime.consumed_queues = list(queues)
        if role is Role.SUCCESSOR:
            take_over(runtime)
        else:
            move(runtime, Event.READY, "ready", reason="", actor=instance.worker_id)


def heartbeat(
    instance: Instance,
    *,
    active_tasks: int,
    tasks_done: int,
    reason: str,
    is_stuck: bool = False,
    consumption: Consumption = CONSUMES,
) -> bool:
    """One statement, no log row, no notification. False when the instance is not the current one.

    `tasks_done` counts since the last heartbeat; `reason` says what the worker waits for ("" for
    nothing); `is_stuck` that its main loop hangs; `consumption` which queues it consumes, and which
    it should.
    """
    return bool(
        WorkerRuntime.objects.filter(
            config__worker_id=instance.worker_id, generation=instance.generation
        ).update(
            last_heartbeat_at=Now(),  # the database's clock, which is also asked for its age
            reason=reason,
            is_stuck=is_stuck,
            consumed_queues=list(consumption.consumed),
            missing_queues=list(consumption.missing),
            unfetched_queues=list(consumption.unfetched),
            active_tasks=active_tasks,
            tasks_total=F("tasks_total") + tasks_done,
        )
    )


def tasks_failed(instance: Instance, failures: Failures) -> None:
    """Tasks that failed since this process told it the last time: a pool child for its own."""
    WorkerRuntime.objects.filter(
        config__worker_id=instance.worker_id, generation=instance.generation
    ).update(
        error_count=F("error_count") + failures.count,
        last_error=failures.error,
        last_error_at=failures.at,
    )


def consumption_changed(instance: Instance, complaint: str) -> None:
    """What is wrong with the worker's queues now, "" for nothing: a row in its log."""
    with belonging(instance) as (runtime, _role):
        who = instance.worker_id
        if complaint:
            record(runtime, "not_consuming", complaint, who, level=Level.WARNING)
        else:
            record(runtime, "consuming", "consumes its queues again", who)
        notify(who)


def port_said(instance: Instance, level: Level, text: str) -> None:
    """The worker's own port could not be had, or could after all: a row in its log."""
    with belonging(instance) as (runtime, _role):
        record(runtime, "port", text, instance.worker_id, level=level)


def shutting_down(instance: Instance, how: str) -> None:
    """The worker says that it drains; the state is the master's to change."""
    with belonging(instance) as (runtime, _role):
        record(runtime, "draining", f"worker is shutting down ({how})", instance.worker_id)
