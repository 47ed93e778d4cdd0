"""Replace before retire [L8]: a successor beside the current instance, until it takes its place."""

from __future__ import annotations

from django.utils import timezone

from lifecycle.errors import LostRace
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.services.rows import claim, forget_attempts, forget_stop, locked, record
from lifecycle.types import Gone, Level, State, Wish


def claim_succession(worker_id: str, generation: int) -> WorkerConfig:
    """The intent to spawn a successor, written before the spawn. Raises `LostRace`."""
    with locked(worker_id) as runtime:
        if runtime.state != State.RUNNING or runtime.successor_generation is not None:
            raise LostRace(f"{worker_id} is {runtime.state} and takes no successor now")
        claim(runtime, generation)
        runtime.successor_generation = runtime.wanted_generation = generation
        runtime.successor_spawn_version = runtime.config.spawn_version
        runtime.reason = "restarting: the new process starts beside the old one"
        record(runtime, "succeeding", f"starting generation {generation} beside this one", "master")
        return runtime.config


def take_over(runtime: WorkerRuntime) -> None:
    """The successor is ready: it is the worker now, and the old instance retires.

    The caller holds the lock.
    """
    old = runtime.generation
    runtime.retiring_generation = old
    runtime.retiring_process_id = runtime.process_id
    runtime.retiring_since = timezone.now()
    runtime.generation = runtime.successor_generation or old
    runtime.process_id = runtime.successor_process_id
    runtime.started_at = runtime.successor_started_at
    runtime.spawn_version = runtime.successor_spawn_version
    runtime.code_version = runtime.successor_code_version
    runtime.active_tasks, runtime.is_stuck, runtime.condemned = 0, False, ""
    runtime.missing_queues, runtime.unfetched_queues = [], []
    forget_attempts(runtime)
    runtime.restart_count += 1
    runtime.last_restart_at = timezone.now()
    runtime.reason = ""
    _clear_successor(runtime)
    record(runtime, "replaced", f"ready; generation {old} retires", runtime.config.worker_id)


def call_off(runtime: WorkerRuntime, why: str) -> None:
    """The restart failed before the old instance was touched: it goes on. The caller locks."""
    runtime.last_error, runtime.last_error_at = why, timezone.now()
    runtime.reason = f"restart called off: {why}"[:1000]
    forget_successor(runtime)
    record(runtime, "called_off", runtime.reason, "master", level=Level.ERROR)


def called_off(worker_id: str, why: str) -> None:
    """The successor was not ready in time; as a stray it will be ended. Raises `LostRace`."""
    with locked(worker_id) as runtime:
        if runtime.successor_generation is None:
            raise LostRace(f"{worker_id} has no successor any more")
        call_off(runtime, why)


def forget_successor(runtime: WorkerRuntime) -> None:
    """A successor that lives is a stray from now on, and is ended. The caller holds the lock."""
    if runtime.successor_generation is not None:
        runtime.wanted_generation = runtime.generation
        _clear_successor(runtime)


def retired(runtime: WorkerRuntime, gone: Gone) -> None:
    """The old instance has ended: the replacement is complete. The caller holds the lock."""
    runtime.retiring_generation = runtime.retiring_process_id = runtime.retiring_since = None
    if runtime.desired_state == Wish.RUNNING and runtime.wanted_generation <= runtime.generation:
        forget_stop(runtime)
    message = f"generation {gone.instance.generation} has retired: {gone.exit}"
    record(runtime, "retired", message, "master")


def _clear_successor(runtime: WorkerRuntime) -> None:
    runtime.successor_generation = runtime.successor_process_id = None
    runtime.successor_started_at = None
