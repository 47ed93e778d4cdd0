"""What a worker reports of itself: Celery's signals, turned into facts on its runtime row.

Handlers run in the worker's main loop and only put facts on a bounded queue; one thread writes
them. It survives a database that is away, says so once, and catches up: reporting never slows a
worker and never ends it [L5].
"""

from __future__ import annotations

import logging
import platform
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import celery
from celery import signals
from celery.utils.dispatch import Signal
from celery.worker import state as celery_state
from django.db import Error as DatabaseError
from django.db import close_old_connections

from lifecycle import VERSION, services
from lifecycle.errors import LifecycleError
from lifecycle.types import Instance

log = logging.getLogger(__name__)

BEAT_S = 10.0
# Celery's own heartbeat comes every 2 s while the main loop turns and the broker answers.
LOOP_SILENCE_S = 7.0
LONGEST_RETRY_S = 10.0
MAX_WAITING = 1000

VERSIONS = {
    "worker": VERSION,
    "python": platform.python_version(),
    "celery": celery.__version__,
}


@dataclass(frozen=True, slots=True)
class Counts:
    active: int
    done: int
    errors: int


class Reporter:
    """Writes the facts of one worker, in order, on a thread of its own."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._facts: queue.Queue[Callable[[], object]] = queue.Queue(MAX_WAITING)
        self._failed = 0
        self._seen_done = self._seen_failed = 0
        self._loop_at = 0.0
        self._outage_since: float | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="muster-reporter", daemon=True).start()

    def put(self, fact: Callable[[], object]) -> None:
        """Queue a fact. When a long outage has filled the queue it is dropped, and that is said."""
        try:
            self._facts.put_nowait(fact)
        except queue.Full:
            log.warning("the report queue is full, a fact was dropped")

    def loop_turned(self) -> None:
        self._loop_at = time.monotonic()

    def task_failed(self, error: str) -> None:
        self._failed += 1
        self.put(lambda: services.task_failed(self.instance, error))

    def flush(self, timeout_s: float) -> None:
        """Wait until what was put so far is written, at most `timeout_s`."""
        done = threading.Event()
        self.put(done.set)
        done.wait(timeout_s)

    def _run(self) -> None:
        next_beat = time.monotonic() + BEAT_S
        while True:
            try:
                fact = self._facts.get(timeout=max(0.0, next_beat - time.monotonic()))
            except queue.Empty:
                fact = self._beat
                next_beat = time.monotonic() + BEAT_S
            self._write(fact)

    def _write(self, fact: Callable[[], object]) -> None:
        retry_s = 1.0
        while True:
            try:
                fact()
            except DatabaseError as error:
                self._outage(error)
                close_old_connections()
                time.sleep(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            except LifecycleError as error:
                log.warning("a fact was refused: %s", error)
                return
            else:
                self._outage_over()
                return

    def _beat(self) -> None:
        counts = self._counts()
        services.heartbeat(
            self.instance,
            active_tasks=counts.active,
            tasks_done=counts.done - self._seen_done,
            errors=counts.errors - self._seen_failed,
            reason=self._waiting_for(),
        )
        self._seen_done, self._seen_failed = counts.done, counts.errors

    def _counts(self) -> Counts:
        done = int(celery_state.all_total_count[0])
        return Counts(len(celery_state.active_requests), done, self._failed)

    def _waiting_for(self) -> str:
        silent = time.monotonic() - self._loop_at > LOOP_SILENCE_S
        return "waiting for broker" if silent else ""

    def _outage(self, error: DatabaseError) -> None:
        if self._outage_since is None:
            self._outage_since = time.monotonic()
            log.warning("the database is away, reports wait: %s", error)

    def _outage_over(self) -> None:
        if self._outage_since is not None:
            log.info("the database is back after %.0f s", time.monotonic() - self._outage_since)
            self._outage_since = None


def enlist(instance: Instance) -> None:
    """Make this process the worker `instance`: from now on its Celery signals are reported."""
    reporter = Reporter(instance)

    def connect(signal: Signal, handler: Callable[..., object]) -> None:
        signal.connect(lambda **kwargs: handler(**kwargs), weak=False)

    connect(signals.celeryd_init, lambda **_: reporter.start())
    connect(signals.heartbeat_sent, lambda **_: reporter.loop_turned())
    connect(signals.worker_ready, lambda **_: _on_ready(reporter))
    connect(
        signals.worker_shutting_down,
        lambda how, **_: reporter.put(lambda: services.shutting_down(instance, how.lower())),
    )
    connect(signals.worker_shutdown, lambda **_: reporter.flush(2.0))
    connect(signals.worker_process_init, lambda **_: reporter.start())
    connect(signals.task_failure, lambda exception, **_: _on_failure(reporter, exception))


def _on_ready(reporter: Reporter) -> None:
    reporter.loop_turned()
    reporter.put(lambda: services.ready(reporter.instance, VERSIONS))


def _on_failure(reporter: Reporter, exception: BaseException) -> None:
    reporter.task_failed(f"{type(exception).__name__}: {exception}")
