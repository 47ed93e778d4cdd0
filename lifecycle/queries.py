"""Reads of workers, for the API, the admin and the master."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, DurationField, ExpressionWrapper, F, Max, Q, QuerySet, Sum
from django.db.models.functions import Now

from lifecycle import series
from lifecycle.consumption import WAITING_FOR_BROKER, complaint
from lifecycle.errors import UnknownWorker
from lifecycle.health import Vitals
from lifecycle.models import Rollout, WorkerConfig, WorkerLog, WorkerMetric, WorkerRuntime
from lifecycle.types import Instance, Level, State, StepState

MIN_HEARTBEAT_TIMEOUT = timedelta(seconds=15)

STATUS_FIELDS = (
    *("desired_state", "reason", "generation", "process_id", "container_id", "pod_name"),
    *("started_at", "ready_at", "stopped_at", "last_heartbeat_at"),
    *("consumed_queues", "missing_queues", "unfetched_queues"),
    *("assigned_accounts", "active_tasks", "tasks_total", "error_count", "last_error"),
    *("restart_count", "restart_attempts", "last_restart_at", "restart_at"),
    *(
        "exit_code",
        "exit_signal",
        "exit_text",
        "worker_version",
        "python_version",
        "celery_version",
    ),
)

SERIES = {  # keys of the metrics' body, and what of a point they show
    "cpu_usage": "cpu_usage",
    "memory_usage": "memory_mb",
    "task_count": "tasks",
    "error_rate": "errors_per_minute",
    "active_tasks": "active_tasks",
}

SEVERITY = [Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR]


def runtimes() -> QuerySet[WorkerRuntime]:
    return WorkerRuntime.objects.select_related("config").order_by("config__worker_id")


def runtime(worker_id: str) -> WorkerRuntime:
    """Raises `UnknownWorker`."""
    try:
        return WorkerRuntime.objects.select_related("config").get(config__worker_id=worker_id)
    except WorkerRuntime.DoesNotExist:
        raise UnknownWorker(worker_id) from None


def known_workers(worker_ids: Iterable[str]) -> set[str]:
    """Those of the ids that are of a worker: one query."""
    rows = WorkerConfig.objects.filter(worker_id__in=list(worker_ids))
    return set(rows.values_list("worker_id", flat=True))


def deleted_at(worker_ids: Iterable[str]) -> dict[str, datetime | None]:
    """When the config of each was deleted, None where that is not known: one query."""
    ids = set(worker_ids)
    history = WorkerConfig.history.filter(worker_id__in=ids, history_type="-")
    rows = history.values_list("worker_id").annotate(at=Max("history_date"))
    return {**dict.fromkeys(ids), **dict(rows)}


def config_versions(worker_id: str, fields: Iterable[str]) -> list[Any]:
    """The values that these fields have had in all versions of the configs of that name, those of
    deleted ones, too: their log files are the same. One query, by the index on `worker_id`."""
    rows = WorkerConfig.history.filter(worker_id=worker_id).order_by().values_list(*fields)
    return [value for row in rows.distinct() for value in row]


def process_ids(worker_ids: Iterable[str]) -> set[tuple[str, int | None]]:
    """The pids that are on record for these workers, and for their successors: (worker_id, pid)."""
    rows = WorkerRuntime.objects.filter(config__worker_id__in=list(worker_ids))
    pids = rows.values_list("config__worker_id", "process_id", "successor_process_id")
    return {(worker_id, pid) for worker_id, *both in pids for pid in both}


def outdated() -> QuerySet[WorkerRuntime]:
    """Workers whose process was started with an older config or with other code than a new one
    would be: `WorkerRuntime.is_outdated`."""
    is_known = ~Q(code_version="") & ~Q(loaded_code="")
    older = Q(spawn_version__lt=F("config__spawn_version"))
    other = is_known & ~Q(code_version=F("loaded_code"))
    return runtimes().filter(older | other, process_id__isnull=False)


def rollouts() -> QuerySet[Rollout]:
    """Rolling restarts, newest first, each with how many steps it has: `steps_total`,
    `steps_pending`, `steps_running`, `steps_done`, `steps_failed`, `steps_skipped`."""
    counts = {f"steps_{state}": Count("steps", filter=Q(steps__state=state)) for state in StepState}
    return Rollout.objects.annotate(steps_total=Count("steps"), **counts).order_by("-pk")


def progress(rollout: Rollout) -> dict[str, int]:
    """The step counts of a row of `rollouts()`: total, pending, running, done, failed, skipped."""
    names = ("total", *StepState)
    return {str(name): getattr(rollout, f"steps_{name}") for name in names}


def uptime_s(runtime: WorkerRuntime, now: datetime) -> float:
    """Seconds since the present process started; 0 when there is none."""
    if runtime.process_id is None or runtime.started_at is None:
        return 0.0
    return max(0.0, (now - runtime.started_at).total_seconds())


def status(runtime: WorkerRuntime, now: datetime) -> dict[str, Any]:
    """The body of `GET /workers/:id/status` [L3]; times are ISO 8601, `uptime` is whole seconds."""
    return {
        "worker_id": runtime.config.worker_id,
        "status": runtime.state,
        "uptime": int(uptime_s(runtime, now)),
        "cpu_usage": round(runtime.cpu_usage, 1),
        "memory_usage_mb": round(runtime.memory_usage_mb, 1),
        "max_accounts": runtime.config.max_accounts,
        "outdated": runtime.is_outdated,
        "successor_process_id": runtime.successor_process_id,
        "retiring_process_id": runtime.retiring_process_id,
        **{name: getattr(runtime, name) for name in STATUS_FIELDS},
    }


def health(runtime: WorkerRuntime, now: datetime) -> dict[str, Any]:
    """The body of `GET /workers/:id/health`: each check is "ok" or says what is wrong."""
    checks = {
        "heartbeat": _heartbeat_check(runtime, now),
        "consuming": _consuming_check(runtime),
        "memory": _limit("MB of memory", runtime.memory_usage_mb, runtime.config.max_memory_mb),
        "cpu": _limit("% CPU", runtime.cpu_usage, runtime.config.cpu_cores * 100),
        "tasks": _limit("active tasks", runtime.active_tasks, runtime.config.concurrency),
    }
    up = runtime.state == State.RUNNING
    return {
        "healthy": up and all(check == "ok" for check in checks.values()),
        "status": runtime.state,
        "reason": runtime.reason,
        "checks": checks,
    }


def _heartbeat_check(runtime: WorkerRuntime, now: datetime) -> str:
    if runtime.state != State.RUNNING:
        return f"worker is {runtime.state}"
    if runtime.last_heartbeat_at is None:
        return "no heartbeat yet"
    age = now - runtime.last_heartbeat_at
    if age > timedelta(seconds=runtime.config.heartbeat_timeout_s):
        return f"last heartbeat {int(age.total_seconds())} s ago"
    return "ok"


def _consuming_check(runtime: WorkerRuntime) -> str:
    """Healthy means that it consumes, not only that it answers [L9]."""
    if runtime.state != State.RUNNING:
        return f"worker is {runtime.state}"
    wrong = complaint(tuple(runtime.missing_queues), tuple(runtime.unfetched_queues))
    return wrong or (WAITING_FOR_BROKER if runtime.reason == WAITING_FOR_BROKER else "ok")


def _limit(what: str, value: float, limit: float) -> str:
    return "ok" if value <= limit else f"{value:.0f} {what}, the limit is {limit:.0f}"


def vitals() -> list[Vitals]:
    """The signs of every worker that may be unwell: one query, whatever the size of the fleet.

    Ages are by the database's clock, which also wrote the heartbeats.
    """
    age = ExpressionWrapper(Now() - F("last_heartbeat_at"), output_field=DurationField())
    rows = (
        WorkerRuntime.objects.filter(state__in=[State.STARTING, State.RUNNING], condemned="")
        .annotate(heartbeat_age=age)
        .filter(
            Q(heartbeat_age__gt=MIN_HEARTBEAT_TIMEOUT)
            | Q(last_heartbeat_at=None, process_id__isnull=False)
            | Q(is_stuck=True)
            | ~Q(missing_queues=[])
            | ~Q(unfetched_queues=[])
            | Q(memory_usage_mb__gt=F("config__max_memory_mb"))
        )
        .select_related("config")
    )
    return [
        Vitals(
            instance=Instance(row.config.worker_id, row.generation),
            heartbeat_age_s=row.heartbeat_age.total_seconds() if row.heartbeat_age else None,
            heartbeat_timeout_s=row.config.heartbeat_timeout_s,
            is_stuck=row.is_stuck,
            not_consuming=complaint(tuple(row.missing_queues), tuple(row.unfetched_queues)),
            memory_mb=row.memory_usage_mb,
            max_memory_mb=row.config.max_memory_mb,
        )
        for row in rows
    ]


def metrics(worker_id: str, period: str, now: datetime) -> dict[str, Any]:
    """The body of `GET /workers/:id/metrics` [L17]: two queries. Raises `UnknownWorker`.

    `period` is one of `series.PERIODS`.
    """
    length = series.PERIODS[period]
    resolution = series.resolution_for(length)
    since = now - length
    rows = (
        WorkerMetric.objects.filter(
            config_id=runtime(worker_id).pk,
            step_s=resolution.step_s,
            time__gte=since - resolution.step,
            time__lte=now,
        )
        .order_by("time")
        .values_list(*series.Row._fields)
    )
    points = list(series.points(map(series.Row._make, rows), resolution.step_s, since))
    return {
        "worker_id": worker_id,
        "period": period,
        "resolution": resolution.step_s,
        "since": since,
        "until": now,
        **{
            key: [
                {"time": point.time, "value": getattr(point, name)}
                for point in points
                if getattr(point, name) is not None
            ]
            for key, name in SERIES.items()
        },
    }


def overview() -> dict[str, Any]:
    """The body of `GET /workers/stats/overview`: one query."""
    states = {state.value: Count("pk", filter=Q(state=state.value)) for state in State}
    row = WorkerRuntime.objects.aggregate(
        total=Count("pk"),
        **states,
        total_accounts=Sum("assigned_accounts", default=0),
        total_capacity=Sum("config__max_accounts", filter=Q(config__enabled=True), default=0),
        cpu_usage_avg=Avg("cpu_usage", filter=Q(process_id__isnull=False), default=0.0),
        memory_usage_total_mb=Sum("memory_usage_mb", default=0.0),
        active_tasks=Sum("active_tasks", default=0),
    )
    row["cpu_usage_avg"] = round(row["cpu_usage_avg"], 1)
    row["memory_usage_total_mb"] = round(row["memory_usage_total_mb"], 1)
    return row


def config_summary() -> dict[str, Any]:
    """The body of `GET /worker-configs/stats/summary`: one query."""
    row = WorkerConfig.objects.aggregate(
        total=Count("pk"),
        # Before `enabled` becomes the name of a count.
        total_capacity=Sum("max_accounts", filter=Q(enabled=True), default=0),
        enabled=Count("pk", filter=Q(enabled=True)),
        auto_start=Count("pk", filter=Q(auto_start=True)),
        local=Count("pk", filter=Q(deployment_type="local")),
        ssh=Count("pk", filter=Q(deployment_type="ssh")),
        docker=Count("pk", filter=Q(deployment_type="docker")),
        kubernetes=Count("pk", filter=Q(deployment_type="kubernetes")),
    )
    kinds = ("local", "ssh", "docker", "kubernetes")
    by_type = {kind: row.pop(kind) for kind in kinds}
    return {**row, "disabled": row["total"] - row["enabled"], "by_deployment_type": by_type}


def lifecycle_log(
    worker_id: str, *, level: str | None = None, since: datetime | None = None, limit: int = 100
) -> QuerySet[WorkerLog]:
    """The newest `limit` rows, newest first; `level` is the lowest that is shown."""
    rows = WorkerLog.objects.filter(config__worker_id=worker_id)
    if level:
        rows = rows.filter(level__in=SEVERITY[SEVERITY.index(Level(level)) :])
    if since:
        rows = rows.filter(time__gte=since)
    return rows[:limit]
