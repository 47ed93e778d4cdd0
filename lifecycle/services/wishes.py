"""Wishes: what people want a worker to be. The master makes them come true."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.db import connection, transaction
from django.utils.translation import gettext as _

from lifecycle import queries
from lifecycle.errors import Rejected
from lifecycle.models import WorkerLog, WorkerRuntime
from lifecycle.services.rows import in_order, locked, record, reset
from lifecycle.states import WITH_PROCESS
from lifecycle.types import STOP_TIMEOUT_MS, State, Wish

# A fork takes some 20 ms; what takes longer takes long.
EAGER_FOR_S = 0.2
EAGER_POLL_S, PATIENT_POLL_S = 0.01, 0.1


@dataclass(frozen=True, slots=True)
class Wished:
    """What became of a wish: the state that comes next.

    `changed`: False when the worker was (or was becoming) so already.
    """

    worker_id: str
    state: State
    changed: bool


def request_start(worker_id: str, actor: str) -> Wished:
    """Wish for a running worker; clears a crash or an error and its restart count.

    Raises `UnknownWorker`; `Rejected` when the config is disabled or the worker is stopping.
    """
    with locked(worker_id) as runtime:
        _require_enabled(runtime)
        if runtime.state == State.STOPPING and runtime.desired_state == Wish.STOPPED:
            raise Rejected(
                worker_id,
                _("%(worker)s is stopping; try again when it has stopped, or force the stop.")
                % {"worker": worker_id},
            )
        if runtime.state in WITH_PROCESS and runtime.desired_state == Wish.RUNNING:
            return Wished(worker_id, State(runtime.state), changed=False)
        reset(runtime, actor)
        _wish(runtime, Wish.RUNNING, actor, "asked to start")
        state = State(runtime.state) if runtime.state in WITH_PROCESS else State.STARTING
        return Wished(worker_id, state, changed=True)


def request_stop(
    worker_id: str, actor: str, *, graceful: bool = True, timeout_ms: int = STOP_TIMEOUT_MS
) -> Wished:
    """Wish for a stopped worker: gracefully within `timeout_ms`, or at once.

    A second call may force a stop that is under way. Raises `UnknownWorker`.
    """
    with locked(worker_id) as runtime:
        same = runtime.desired_state == Wish.STOPPED and (
            runtime.stop_graceful == graceful or runtime.state not in WITH_PROCESS
        )
        if runtime.state in (State.CRASHED, State.ERROR):
            reset(runtime, actor)
            same = False
        state = State.STOPPING if runtime.state in WITH_PROCESS else State(runtime.state)
        if same:
            return Wished(worker_id, state, changed=False)
        runtime.stop_graceful, runtime.stop_timeout_ms = graceful, timeout_ms
        _wish(
            runtime, Wish.STOPPED, actor, "asked to stop" if graceful else "asked to stop at once"
        )
        return Wished(worker_id, state, changed=True)


def request_restart(
    worker_id: str,
    actor: str,
    *,
    graceful: bool = True,
    timeout_ms: int = STOP_TIMEOUT_MS,
    replace_first: bool = True,
) -> Wished:
    """Wish for a newer generation of the worker; a stopped one is started.

    With `replace_first` (and gracefully) the new process is ready before the old one ends [L8].
    Asking again while a restart is under way changes nothing. Raises `UnknownWorker`, `Rejected`.
    """
    with locked(worker_id) as runtime:
        _require_enabled(runtime)
        reset(runtime, actor)
        if runtime.state not in WITH_PROCESS:
            _wish(runtime, Wish.RUNNING, actor, "asked to restart")
            return Wished(worker_id, State.STARTING, changed=True)
        if runtime.desired_state == Wish.RUNNING and (
            runtime.state == State.STARTING or runtime.wanted_generation > runtime.generation
        ):
            return Wished(worker_id, State.STARTING, changed=False)
        runtime.wanted_generation = runtime.last_generation + 1
        runtime.stop_graceful, runtime.stop_timeout_ms = graceful, timeout_ms
        runtime.replace_first = replace_first and graceful
        _wish(runtime, Wish.RUNNING, actor, "asked to restart")
        return Wished(worker_id, State.STARTING, changed=True)


def wait_for_process(worker_id: str, timeout_s: float = 5.0) -> WorkerRuntime:
    """The runtime once a process exists or can't be had, or after `timeout_s` as it is then.

    Raises `UnknownWorker`. Reads by polling; between the later polls its database connection is in
    the pool, so that starts which wait for an absent master leave the others' requests theirs.
    """
    begun = time.monotonic()
    while True:
        runtime = queries.runtime(worker_id)
        up = runtime.process_id is not None and runtime.state != State.STOPPING
        waited_s = time.monotonic() - begun
        if up or runtime.state == State.ERROR or waited_s >= timeout_s:
            return runtime
        if waited_s < EAGER_FOR_S:
            time.sleep(EAGER_POLL_S)
        else:
            if not connection.in_atomic_block:
                connection.close()
            time.sleep(PATIENT_POLL_S)


def clear_wishes_without_auto_start() -> None:
    """The system shuts down on purpose: workers without `auto_start` stay down next time."""
    wanted = WorkerRuntime.objects.filter(config__auto_start=False, desired_state=Wish.RUNNING)
    said: list[WorkerLog] = []
    with transaction.atomic():
        rows = in_order(wanted)
        for runtime in rows:
            runtime.gathered = said
            record(runtime, "wish", "stays down after this: it has no auto start", "master")
        rows.update(desired_state=Wish.STOPPED.value)
        WorkerLog.objects.bulk_create(said)


def _require_enabled(runtime: WorkerRuntime) -> None:
    if not runtime.config.enabled:
        worker_id = runtime.config.worker_id
        raise Rejected(
            worker_id,
            _("%(worker)s is disabled; enable its config first.") % {"worker": worker_id},
        )


def _wish(runtime: WorkerRuntime, wish: Wish, actor: str, message: str) -> None:
    runtime.desired_state = wish.value
    record(runtime, "wish", message, actor)
