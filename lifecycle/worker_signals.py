"""What a worker reports of itself: Celery's signals, turned into facts on its runtime row.

Handlers run in the worker's main loop and only put facts on a bounded queue; one thread writes
them. It survives a database that is away, says so once, and catches up: reporting never slows a
worker and never ends it [L5].
"""

from __future__ import annotations

import logging
import os
import platform
import queue
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import celery
from celery import current_app, signals
from celery.utils.dispatch import Signal
from celery.worker import state as celery_state
from django.db import (
    InterfaceError,
    InternalError,
    OperationalError,
    close_old_connections,
    connection,
)
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from lifecycle import VERSION, services
from lifecycle.consumer_watch import BROKER_PATIENCE, BROKER_TIMEOUT_S, ConsumerWatch
from lifecycle.consumption import WAITING_FOR_BROKER, Consumption
from lifecycle.errors import LifecycleError, LostRace
from lifecycle.patience import wait_s
from lifecycle.task_failures import FailedTasks
from lifecycle.types import Instance

log = logging.getLogger(__name__)

BEAT_S = 10.0
# Failed tasks are told at most so often, however many fail.
FAILURES_S = 1.0
# Celery's own heartbeat comes every 2 s while the main loop turns and the broker answers.
LOOP_SILENCE_S = 7.0
# A loop that is silent for this long although the broker answers does not come back by itself.
STUCK_S = 60.0
MAX_WAITING = 1000
# Errors that end by themselves; the second is a standby that was not promoted yet. With any other
# the fact itself is wrong, and is no better the next time.
OUTAGE = (OperationalError, InternalError, InterfaceError)

VERSIONS = {
    "worker": VERSION,
    "python": platform.python_version(),
    "celery": celery.__version__,
}


# What else in a worker's main process can hang; see `watch`.
_watched: list[Callable[[], bool]] = []


def watch(is_stuck: Callable[[], bool]) -> None:
    """Have each heartbeat ask whether something of an app hangs for good; must answer at once."""
    _watched.append(is_stuck)


class Reporter:
    """Writes the facts of one worker, in order, on a thread of its own."""

    def __init__(self, instance: Instance, *, works_in_loop: bool) -> None:
        self.instance = instance
        self.works_in_loop = works_in_loop  # the pool runs tasks in the main loop
        self._facts: queue.Queue[Callable[[], object]] = queue.Queue(MAX_WAITING)
        self._main_pid: int | None = None
        self._beats = True
        self._beat_at = self._failures_at = float("-inf")  # when they are due
        self._failed = FailedTasks()
        self._seen_done = 0
        self._loop_at = self._broker_away_at = time.monotonic()
        self._waits_for, self._is_stuck = "", False
        self._outage_since: float | None = None
        self.consumer = ConsumerWatch(works_in_loop=works_in_loop)
        self._consumption = Consumption()
        self._looked_at = float("-inf")
        self._is_unheard = False  # ready, and refused

    def start(self) -> None:
        """In the worker's main process: write facts, and a heartbeat every 10 s."""
        self._main_pid = os.getpid()
        self.put(self._connect)  # while Celery starts: `ready` need not wait for it
        self._start_thread()

    def start_in_child(self) -> None:
        """In a pool child: write its tasks' failures. Only the main process can tell its health.

        A solo pool says that it has a child, too: the main process itself.
        """
        if os.getpid() != self._main_pid:
            self._beats = False
            # The parent's may have been locked by the fork, and are the parent's to write.
            self._facts, self._failed = queue.Queue(MAX_WAITING), FailedTasks()
            self._start_thread()

    def _start_thread(self) -> None:
        self._beat_at = time.monotonic() + BEAT_S if self._beats else float("inf")
        threading.Thread(target=self._run, name="muster-reporter", daemon=True).start()

    @staticmethod
    def _connect() -> None:
        connection.ensure_connection()

    def put(self, fact: Callable[[], object]) -> None:
        """Queue a fact. When a long outage has filled the queue it is dropped, and that is said."""
        try:
            self._facts.put_nowait(fact)
        except queue.Full:
            log.warning("the report queue is full, a fact was dropped")

    def loop_turned(self) -> None:
        self._loop_at = time.monotonic()

    def task_failed(self, error: str) -> None:
        """For any thread of the process in which the task ran: with prefork, a pool child."""
        if self._failed.add(error, timezone.now()):
            with suppress(queue.Full):  # then the writer is awake
                self._facts.put_nowait(_wake)

    def flush(self, timeout_s: float) -> None:
        """Wait until what was put so far is written, at most `timeout_s`."""
        if failures := self._failures():
            self.put(failures)
        done = threading.Event()
        self.put(done.set)
        done.wait(timeout_s)

    def _run(self) -> None:
        while True:
            self._write(self._next())

    def _next(self) -> Callable[[], object]:
        """Wait for the next thing to write. What is due goes before whatever else waits: a worker
        whose facts never end is not a silent one."""
        while True:
            now = time.monotonic()
            if self._beat_at <= now:
                self._beat_at = now + BEAT_S
                return self._beat
            if self._failures_at <= now and (failures := self._failures()):
                self._failures_at = now + FAILURES_S
                return failures
            due_at = min(self._beat_at, self._failures_at if self._failed else float("inf"))
            with suppress(queue.Empty):
                return self._facts.get(timeout=due_at - now if due_at < float("inf") else None)

    def _failures(self) -> Callable[[], object] | None:
        """The fact that tasks have failed, if any did since the last one."""
        taken = self._failed.take()
        return partial(services.tasks_failed, self.instance, taken) if taken else None

    def _write(self, fact: Callable[[], object]) -> None:
        failed = 0
        while True:
            try:
                fact()
            except OUTAGE as error:
                self._outage(error)
                close_old_connections()
                failed += 1
                time.sleep(wait_s(failed, random.random()))  # noqa: S311 - no secret
            except LifecycleError as error:
                log.warning("a fact was refused: %s", error)
                return
            except Exception:  # without this thread a healthy worker is a silent one
                log.exception("a fact can't be written and is dropped")
                return
            else:
                self._outage_over()
                return

    def _beat(self) -> None:
        self._look_at_loop()
        self._look_at_consumer()
        done = int(celery_state.all_total_count[0])
        is_current = services.heartbeat(
            self.instance,
            active_tasks=len(celery_state.active_requests),
            tasks_done=done - self._seen_done,
            reason=self._waits_for or str(self._consumption),
            is_stuck=self._is_stuck,
            consumption=self._consumption,
        )
        self._seen_done = done
        if is_current and self._is_unheard:
            self.put(self.say_ready)

    def say_ready(self) -> None:
        """Again once a heartbeat finds this instance current, if it is not: a database that died
        may have lost its claim, which the master then makes anew (adr 0022). Raises `LostRace`."""
        self._is_unheard = False
        try:
            services.ready(self.instance, VERSIONS, tuple(sorted(self.consumer.demanded)))
        except LostRace:
            self._is_unheard = True
            raise

    def trouble(self) -> str:
        """Why this worker does not work now, "" when it does. Answers at once, to any thread."""
        if self.consumer.ends():
            return "stopping"
        silent_s = time.monotonic() - self._loop_at
        if not self.consumer.is_ready():
            return self._waits_for or "starting"
        if silent_s > LOOP_SILENCE_S and not self._runs_task_in_loop():
            return self._waits_for or f"its main loop has been silent for {silent_s:.0f} s"
        return "its main loop makes no progress" if self._is_stuck else str(self._consumption)

    def _runs_task_in_loop(self) -> bool:
        return self.works_in_loop and bool(celery_state.active_requests)

    def _look_at_loop(self) -> None:
        """A silent main loop waits for the broker, runs a task (solo pool), or hangs."""
        now = time.monotonic()
        silent_s = now - self._loop_at
        self._waits_for, self._is_stuck = "", any(hangs() for hangs in _watched)
        if silent_s <= LOOP_SILENCE_S:
            return
        if not self._broker_answers():
            self._waits_for = WAITING_FOR_BROKER
            self._broker_away_at = now
            return
        # A broker that is back is found at the loop's next try: until then it still waits.
        stuck_s = now - max(self._loop_at, self._broker_away_at)
        if stuck_s > STUCK_S and not self._runs_task_in_loop():
            self._is_stuck = True

    def _look_at_consumer(self) -> None:
        """Also has it said in the worker's log what changed for the worse, or became well again."""
        now = time.monotonic()
        if now - self._looked_at < BEAT_S / 2:  # a heartbeat that is tried again
            return
        self._looked_at = now
        before = str(self._consumption)
        loop_turns = now - self._loop_at <= LOOP_SILENCE_S
        self._consumption = self.consumer.consumption(loop_turns=loop_turns)
        if (complaint := str(self._consumption)) != before:
            self.put(lambda: services.consumption_changed(self.instance, complaint))

    def _broker_answers(self) -> bool:
        """Also a broker that takes connections and then hangs must not hold up a heartbeat."""
        try:
            with current_app.connection_for_read(transport_options=BROKER_PATIENCE) as broker:
                broker.ensure_connection(max_retries=1, interval_start=0, timeout=BROKER_TIMEOUT_S)
        except (BrokerError, OSError):
            return False
        return True

    def _outage(self, error: Exception) -> None:
        if self._outage_since is None:
            self._outage_since = time.monotonic()
            log.warning("the database is away, reports wait: %s", error)

    def _outage_over(self) -> None:
        if self._outage_since is not None:
            log.info("the database is back after %.0f s", time.monotonic() - self._outage_since)
            self._outage_since = None


def _wake() -> None:
    """A fact of nothing: whoever waits for facts looks at what is due."""


def enlist(instance: Instance, *, works_in_loop: bool = False) -> Reporter:
    """Make this process the worker `instance`: from now on its Celery signals are reported."""
    reporter = Reporter(instance, works_in_loop=works_in_loop)

    def connect(signal: Signal, handler: Callable[..., object]) -> None:
        signal.connect(lambda **kwargs: handler(**kwargs), weak=False)

    connect(signals.celeryd_init, lambda **_: reporter.start())
    connect(signals.celeryd_after_setup, lambda instance, **_: reporter.consumer.demand(instance))
    connect(signals.heartbeat_sent, lambda **_: reporter.loop_turned())
    connect(signals.worker_ready, lambda sender, **_: _on_ready(reporter, sender))
    connect(signals.worker_shutting_down, lambda how, **_: _on_shutting_down(reporter, how))
    for received in (signals.task_received, signals.task_unknown, signals.task_rejected):
        connect(received, lambda **_: reporter.consumer.received())
    connect(signals.worker_shutdown, lambda **_: reporter.flush(2.0))
    connect(signals.worker_process_init, lambda **_: reporter.start_in_child())
    connect(signals.worker_process_shutdown, lambda **_: reporter.flush(2.0))
    connect(signals.task_failure, lambda exception, **_: _on_failure(reporter, exception))
    return reporter


def _on_ready(reporter: Reporter, consumer: object) -> None:
    reporter.loop_turned()
    reporter.consumer.attach(consumer)
    reporter.put(reporter.say_ready)


def _on_shutting_down(reporter: Reporter, how: str) -> None:
    reporter.consumer.drains()
    reporter.put(lambda: services.shutting_down(reporter.instance, how.lower()))


def _on_failure(reporter: Reporter, exception: BaseException) -> None:
    reporter.task_failed(f"{type(exception).__name__}: {exception}")
