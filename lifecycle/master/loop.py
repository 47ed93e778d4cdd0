"""One thread decides. What happens reaches it as items on one queue: notifications from PostgreSQL,
events from backends, and its own deadlines."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from django.db import InterfaceError, OperationalError
from django.utils import timezone

from lifecycle import queries, services
from lifecycle.backends.base import Backend, BackendEvent, Ending, Loaded, Sampled, Snapshot
from lifecycle.checkup import Checkup
from lifecycle.clocks import Clocks
from lifecycle.consumption import WAITING_FOR_BROKER
from lifecycle.errors import BackendUnavailable, LifecycleError, LostRace, UnknownWorker
from lifecycle.master.agenda import Agenda
from lifecycle.master.deadlocks import despite_deadlocks
from lifecycle.master.items import BrokerAnswers, Item, Leave, Lost, Notified, Observed, ShutDown
from lifecycle.master.sight import Sight
from lifecycle.master.steps import Steps
from lifecycle.models import WorkerRuntime
from lifecycle.reconcile import Action, Start, plan
from lifecycle.states import WITH_PROCESS
from lifecycle.types import Alive, DeploymentType, Gone, State

log = logging.getLogger(__name__)

RETRY = timedelta(seconds=1)
RECONNECT_S = 0.1
LONGEST_SLEEP_S = 5.0  # so that a set clock is noticed


@dataclass
class Master:
    backends: dict[DeploymentType, Backend]
    # Asked before each decision, as one that stood still hears of its lost lead too late.
    leads: Callable[[], bool] = lambda: True
    broker_answers: bool = True  # has answered since this master leads [L4]
    items: queue.SimpleQueue[Item] = field(default_factory=queue.SimpleQueue)
    sight: Sight = field(default_factory=Sight)
    agenda: Agenda = field(default_factory=Agenda)
    checkup: Checkup = field(default_factory=Checkup)
    clocks: Clocks = field(default_factory=Clocks)
    steps: Steps = field(init=False)
    shutting_down: bool = False
    started: bool = False
    deposed: bool = False

    def __post_init__(self) -> None:
        self.steps = Steps(self.backends, self.sight, self.agenda, lambda: self.shutting_down)

    def depose(self) -> None:
        """The lead is lost: nothing more is decided. Called from another thread."""
        self.deposed = True
        self.items.put(Leave())

    def run(self) -> None:
        """Decide until told to leave, or until the whole fleet has ended after `ShutDown`.

        Database errors are left to the caller: without its database a master must not decide.
        """
        self.started = True
        for deployment_type, backend in self.backends.items():
            threading.Thread(
                target=self._watch, args=(deployment_type, backend), daemon=True
            ).start()
        while True:
            woken = self._next()
            if woken is None:
                return
            self.reconcile(woken)
            if self._may_decide():
                self._look_after()
            if self.shutting_down and not self.sight.alive and not self._expected():
                return

    def _may_decide(self) -> bool:
        return not self.deposed and self.leads()

    # --- observe ---

    def _watch(self, deployment_type: DeploymentType, backend: Backend) -> None:
        """Hand a backend's events to the deciding thread, for ever."""
        pause = threading.Event()
        connected = True
        while True:
            try:
                for event in backend.watch():
                    connected = True
                    self.items.put(Observed(deployment_type, event))
            except BackendUnavailable as error:
                if connected:
                    log.warning("backend %s: %s", deployment_type, error)
                    self.items.put(Lost(deployment_type))
                connected = False
            except Exception:  # a master that hears of no exit any more must not keep the lead
                log.exception("backend %s: can't be watched, trying again", deployment_type)
                self.items.put(Lost(deployment_type))
                connected = False
                pause.wait(RETRY.total_seconds())
            pause.wait(RECONNECT_S)

    def _next(self) -> set[str] | None:
        """Wait for the next things to happen; the workers they concern, or None to leave."""
        woken: set[str] = set()
        self._notice_clock_jump()
        next_at = min(self.agenda.next_at(), self.checkup.due_at)
        timeout = max(0.0, (next_at - timezone.now()).total_seconds())
        try:
            items = [self.items.get(timeout=min(timeout, LONGEST_SLEEP_S))]
        except queue.Empty:
            items = []
        while not self.items.empty():
            items.append(self.items.get())
        for item in items:
            if not self._may_decide() or isinstance(item, Leave):
                return None
            woken |= despite_deadlocks(partial(self._take, item))
        return woken | self.agenda.due(timezone.now())

    def _take(self, item: Item) -> set[str]:
        match item:
            case Notified(worker_id):
                return {worker_id}
            case Lost(deployment_type):
                self.sight.lost(deployment_type)
            case BrokerAnswers():
                self.broker_answers = True
                self.agenda.resync_at = timezone.now()
            case ShutDown():
                self.shutting_down = True
                services.clear_wishes_without_auto_start()
                self.agenda.resync_at = timezone.now()
            case Observed(deployment_type, event, at):
                return self._observe(deployment_type, event, at)
        return set()

    def _observe(self, deployment_type: DeploymentType, event: BackendEvent, at: float) -> set[str]:
        match event:
            case Snapshot() as snapshot:
                self._take_snapshot(deployment_type, snapshot, at)
            case Alive() as alive:
                self.sight.lives(alive.instance)
                self._write_down([alive])
                return {alive.instance.worker_id}
            case Ending(instance):
                self.steps.foresee(instance)
            case Gone() as gone:
                self._take_gone(deployment_type, gone)
                return {gone.instance.worker_id}
            case Sampled(samples):
                services.sampled(list(samples))
            case Loaded(code):
                services.code_loaded(deployment_type, code)
        return set()

    def _take_snapshot(
        self, deployment_type: DeploymentType, snapshot: Snapshot, at: float
    ) -> None:
        self.steps.seen.clear()
        for gone in snapshot.gone:
            self._take_gone(deployment_type, gone)
        self.sight.take(deployment_type, snapshot, at)
        self._write_down(snapshot.alive)
        if snapshot.code:
            services.code_loaded(deployment_type, snapshot.code)
        self.agenda.resync_at = timezone.now()

    def _take_gone(self, deployment_type: DeploymentType, gone: Gone) -> None:
        """Until it is written down: nobody but us remembers to."""
        if not self.steps.take_gone(deployment_type, gone, self._starts_now):
            again = [Observed(deployment_type, gone)]
            timer = threading.Timer(RETRY.total_seconds(), self.items.put, again)
            timer.daemon = True
            timer.start()

    def _starts_now(self, runtime: WorkerRuntime) -> int | None:
        """The generation to start, if that is the plan for this row."""
        if not self._may_decide():
            return None
        now = timezone.now()
        view = self.sight.view(runtime, now, self.backends)
        action = plan(view, now, shutting_down=self.shutting_down)
        return action.generation if isinstance(action, Start) else None

    @staticmethod
    def _write_down(found: Collection[Alive]) -> None:
        """Processes that a master had started when it was killed, before it wrote down their pid,
        or that started after it had stopped waiting."""
        known = queries.process_ids(alive.instance.worker_id for alive in found)
        for alive in found:
            if (alive.instance.worker_id, alive.process.pid) not in known:
                with suppress(LostRace, UnknownWorker):
                    services.spawned(alive)

    def _notice_clock_jump(self) -> None:
        """Deadlines by a clock that was set mean nothing: look at everything again."""
        _passed_s, jump_s = self.clocks.look()
        if jump_s:
            log.warning("the clock was set by %.0f s; looking at everything again", jump_s)
            self.agenda.start_over(timezone.now())
            self.sight.troubles.clear()
            self.checkup.due_at = timezone.now()

    # --- plan and apply ---

    def _look_after(self) -> None:
        """Condemn who is unwell, and tell the backend to end it."""
        now = timezone.now()
        if now < self.checkup.due_at or self.shutting_down:
            return
        for instance, graceful in self.checkup.run(now):
            try:
                config = queries.runtime(instance.worker_id).config
                self.steps.condemn(config, instance, graceful)
            except LifecycleError as error:  # condemned it is: the plan will say it again
                log.warning("could not end %s: %s", instance, error)
                self.agenda.add(instance.worker_id, now + RETRY)

    def reconcile(self, worker_ids: Iterable[str]) -> None:
        """Plan and act for these workers, or for all of them when a resync is due."""
        if not self._may_decide():
            return
        now = timezone.now()
        rows = queries.runtimes()
        if self.agenda.takes_all(now):
            self.steps.evict_unknown()
        else:
            ids = list(worker_ids)
            if not ids:
                return
            rows = rows.filter(config__worker_id__in=ids)
        for runtime in rows:
            if not self._may_decide():
                return
            self._reconcile_one(runtime, now)

    def _reconcile_one(self, runtime: WorkerRuntime, now: datetime) -> None:
        view = self.sight.view(runtime, now, self.backends)
        action = plan(view, now, shutting_down=self.shutting_down)
        try:
            if self._waits_for_broker(runtime, action):
                return
            despite_deadlocks(partial(self.steps.apply, runtime.config, view, action))
        except (InterfaceError, OperationalError):
            raise  # without its database a master must not decide; other errors are of one row
        except LostRace as error:
            log.info("looking again: %s", error)
            self.agenda.add(view.worker_id, now)
        except LifecycleError as error:
            log.warning("could not %s: %s", type(action).__name__.lower(), error)
            self.agenda.add(view.worker_id, now + RETRY)
        except Exception:  # one worker's trouble must not keep the others from being looked after
            log.exception("could not carry out %s", action)
            self.agenda.add(view.worker_id, now + RETRY)

    def _waits_for_broker(self, runtime: WorkerRuntime, action: Action) -> bool:
        """Workers with `auto_start` start once the broker has answered [L4]. Those that crashed
        are restarted by their policy, and wait for it themselves [L5]."""
        if runtime.state != State.STOPPED or not runtime.config.auto_start:
            return False
        waits = isinstance(action, Start) and not self.broker_answers
        reason = WAITING_FOR_BROKER if waits else ""
        if waits or runtime.reason == WAITING_FOR_BROKER:
            services.start_waits(runtime.config.worker_id, reason)
        return waits

    def _expected(self) -> bool:
        """While the fleet shuts down: does any row still wait for its process to end?"""
        return WorkerRuntime.objects.filter(state__in=WITH_PROCESS).exists()
