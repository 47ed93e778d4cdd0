"""Facts: what the master sees of a worker. What the worker says of itself is in `reports`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone

from lifecycle.errors import LostRace
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.policy import GiveUp, LeaveStopped, Restart, RestartPolicy, decide
from lifecycle.services.replacement import call_off, forget_successor, retired
from lifecycle.services.rows import (
    CHANNEL,
    Role,
    belonging,
    claim,
    current,
    forget_attempts,
    forget_stop,
    in_order,
    locked,
    move,
    record,
    reset,
    role_of,
    unlocked,
)
from lifecycle.states import WITH_PROCESS
from lifecycle.types import Alive, DeploymentType, Event, Gone, Instance, Level, RestartMode, State


def claim_start(worker_id: str, generation: int, *, lives: bool = False) -> WorkerConfig:
    """The intent to spawn, written before the spawn; or anew, for one that `lives` though the
    database lost its claim. Raises `LostRace`, `ImpossibleTransition`."""
    with locked(worker_id) as runtime:
        _claim_start(runtime, generation, lives=lives)
        return runtime.config


def _claim_start(runtime: WorkerRuntime, generation: int, *, lives: bool = False) -> None:
    claim(runtime, generation)
    again = runtime.state == State.CRASHED
    runtime.generation = generation
    runtime.wanted_generation = max(runtime.wanted_generation, generation)
    if not lives:  # else the config may have changed since its start: the older one is on record
        runtime.spawn_version = runtime.config.spawn_version
    runtime.restart_at = None
    runtime.started_at = runtime.ready_at = runtime.last_heartbeat_at = None
    runtime.exit_code, runtime.exit_signal = None, ""
    runtime.active_tasks = 0
    runtime.is_stuck, runtime.condemned = False, ""
    forget_stop(runtime)
    runtime.consumed_queues, runtime.missing_queues, runtime.unfetched_queues = [], [], []
    if again:
        runtime.restart_count += 1
        runtime.last_restart_at = timezone.now()
    move(runtime, Event.START, "restarting" if again else "starting")


SPAWNED = """
    UPDATE lifecycle_workerruntime r SET
        {role}process_id = %(pid)s, {role}started_at = %(started_at)s, {role}code_version = %(code)s
    FROM lifecycle_workerconfig c
    WHERE c.worker_id = %(worker_id)s AND r.config_id = c.id
        AND r.{role}generation = %(generation)s AND r.state IN ('starting', 'running', 'stopping')
    RETURNING pg_notify(%(channel)s, c.worker_id), set_config('synchronous_commit', 'off', true)
"""


def spawned(alive: Alive) -> None:
    """A process exists, of the worker itself or of its successor. Raises `LostRace` when it is of
    the past.

    One statement, whose commit does not wait for the disk: the agent has the same on its own, and
    the master writes it again when it finds it missing.
    """
    values: dict[str, str | int | datetime] = {
        "channel": CHANNEL,
        "worker_id": alive.instance.worker_id,
        "generation": alive.instance.generation,
        "pid": alive.process.pid,
        "started_at": alive.started_at,
        "code": alive.code,
    }
    with connection.cursor() as cursor:
        for role in ("", "successor_", ""):  # it may take its place in between
            cursor.execute(SPAWNED.format(role=role), values)
            if cursor.fetchone():
                return
    raise LostRace(f"{alive.instance} is not current")


def spawn_refused(instance: Instance, why: str) -> None:
    """The worker can't be started as configured: `error`, with the reason, until a person acts.

    A successor that can't be started calls its restart off; what runs goes on.
    """
    with belonging(instance) as (runtime, role):
        runtime.last_error, runtime.last_error_at = why, timezone.now()
        if role is Role.SUCCESSOR:
            call_off(runtime, why)
        else:  # a pid on record is of a process that was lost with its home
            runtime.process_id = runtime.started_at = None
            move(runtime, Event.REFUSED, why, level=Level.ERROR)


def code_loaded(deployment_type: DeploymentType, code: str) -> None:
    """What a new process of this deployment type would run. Safe to repeat; rows that have it
    already are not written."""
    rows = WorkerRuntime.objects.filter(config__deployment_type=deployment_type)
    with transaction.atomic():
        in_order(rows.exclude(loaded_code=code)).update(loaded_code=code)


def spawn_delayed(instance: Instance, why: str) -> None:
    """The worker can't be started now, and will be tried again. Raises `LostRace`."""
    with belonging(instance) as (runtime, _role):
        runtime.reason = why[:1000]


def start_waits(worker_id: str, reason: str) -> None:
    """What a stopped worker that is to start by itself waits for; "" for nothing any more."""
    with locked(worker_id) as runtime:
        if runtime.state == State.STOPPED:
            runtime.reason = reason


def stopping(instance: Instance, cause: str) -> tuple[bool, int]:
    """The worker is about to be told to stop; returns (graceful, timeout in ms) of the wish."""
    with current(instance) as runtime:
        runtime.stopping_since = timezone.now()
        forget_successor(runtime)
        move(runtime, Event.STOP, cause)
        return runtime.stop_graceful, runtime.stop_timeout_ms


def condemned(instance: Instance, cause: str) -> bool:
    """The worker is unwell and will be ended; its exit then is a crash with this cause [L9].

    False when that is known already. Raises `LostRace`.
    """
    with current(instance) as runtime:
        if runtime.condemned or runtime.state not in (State.STARTING, State.RUNNING):
            return False
        runtime.condemned = runtime.reason = cause[:500]
        record(runtime, "condemned", f"to be replaced: {cause}", "master", level=Level.WARNING)
        return True


StartsNow = Callable[[WorkerRuntime], int | None]


def exited(
    gone: Gone,
    random: Callable[[], float],
    starts_now: StartsNow | None = None,
    seen: WorkerRuntime | None = None,
) -> WorkerConfig | None:
    """A process ended: `stopped` if it was asked to, else `crashed` and the restart policy's turn.

    When `starts_now` then names a generation for the row as it is, that is claimed in the same
    transaction, and its config returned: the caller spawns it, and has it made durable
    (`make_durable`) meanwhile, before it acknowledges the exit. The end of a successor calls its
    restart off, the end of a retiring instance completes it. `seen` is the row as the caller has
    read it (`look`): one that was written since is read again. Safe to repeat: a backend reports an
    exit until it is acknowledged. Raises `LostRace` when the exit is of the past.
    """

    def step(runtime: WorkerRuntime) -> WorkerConfig | None:
        following = runtime.last_generation + 1
        if runtime.state == State.CRASHED and gone.instance.generation == following:
            _claim_start(runtime, following, lives=True)  # the database lost its claim
        match role_of(gone.instance, runtime):
            case Role.SUCCESSOR:
                call_off(runtime, f"the new process ended: {gone.exit}")
            case Role.RETIRING:
                retired(runtime, gone)
            case Role.CURRENT if runtime.state in WITH_PROCESS:
                _current_exited(runtime, gone, random)
                generation = starts_now(runtime) if starts_now else None
                if generation is not None:
                    _claim_start(runtime, generation)
                    return runtime.config
        return None

    worker_id = gone.instance.worker_id
    return unlocked(worker_id, step, is_last=lambda claimed: claimed is None, seen=seen)


def _current_exited(runtime: WorkerRuntime, gone: Gone, random: Callable[[], float]) -> None:
    asked = runtime.state == State.STOPPING
    forget_successor(runtime)
    runtime.process_id = None
    runtime.stopped_at = gone.ended_at
    runtime.stopping_since = None
    runtime.active_tasks, runtime.memory_usage_mb, runtime.cpu_usage = 0, 0, 0
    runtime.exit_code, runtime.exit_signal = gone.exit.code, gone.exit.signal_name
    runtime.exit_text = str(gone.exit)[:500]
    if asked:
        forget_attempts(runtime)
        move(runtime, Event.EXITED, f"stopped: {gone.exit}", reason="")
        return
    if runtime.condemned:
        gone = replace(gone, exit=replace(gone.exit, note=runtime.condemned))
    runtime.error_count += 1
    runtime.last_error, runtime.last_error_at = str(gone.exit), gone.ended_at
    move(runtime, Event.EXITED, f"crashed: {gone.exit}", level=Level.ERROR)
    _apply_policy(runtime, gone, random)


def settled(worker_id: str) -> None:
    """A crashed worker that nobody wants any more."""
    with locked(worker_id) as runtime:
        reset(runtime, "master")


def set_assigned_accounts(counts: dict[str, int]) -> None:
    """How many accounts each worker holds; workers that are not named hold none."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH changed AS MATERIALIZED (
                SELECT r.config_id, coalesce(n.n, 0) AS n
                FROM lifecycle_workerruntime r
                JOIN lifecycle_workerconfig c ON c.id = r.config_id
                LEFT JOIN unnest(%s::text[], %s::int[]) AS n(worker_id, n)
                       ON n.worker_id = c.worker_id
                WHERE r.assigned_accounts <> coalesce(n.n, 0)
                ORDER BY r.config_id FOR NO KEY UPDATE OF r -- the order of all who write many rows
            )
            UPDATE lifecycle_workerruntime r SET assigned_accounts = changed.n
            FROM changed WHERE changed.config_id = r.config_id
            """,
            [list(counts), list(counts.values())],
        )


def _apply_policy(runtime: WorkerRuntime, gone: Gone, random: Callable[[], float]) -> None:
    now = timezone.now()
    match decide(
        policy_of(runtime.config),
        attempts=runtime.restart_attempts,
        since=runtime.attempts_since,
        uptime=gone.uptime,
        exit=gone.exit,
        now=now,
        random=random,
    ):
        case Restart(at=at, attempts=attempts, since=since):
            runtime.restart_at, runtime.restart_attempts = at, attempts
            runtime.attempts_since = since
            runtime.reason = _restart_reason(gone, at, now)
        case GiveUp(reason=reason):
            move(runtime, Event.GIVE_UP, reason, level=Level.ERROR)
        case LeaveStopped(reason=reason):
            runtime.reason = reason


def _restart_reason(gone: Gone, at: datetime, now: datetime) -> str:
    wait = (at - now).total_seconds()
    return f"{gone.exit}; restart in {wait:.1f} s" if wait > 0 else f"{gone.exit}; restarting now"


def policy_of(config: WorkerConfig) -> RestartPolicy:
    return RestartPolicy(
        mode=RestartMode(config.restart_mode) if config.auto_restart else RestartMode.NEVER,
        delay=timedelta(milliseconds=config.restart_delay_ms),
        cap=timedelta(milliseconds=config.max_restart_delay_ms),
        max_attempts=config.max_restart_attempts,
        stable=timedelta(seconds=config.stable_after_s),
        window=timedelta(seconds=config.restart_window_s) or None,
    )
