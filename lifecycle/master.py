"""The master: observe → plan → apply, for the workers that something happened to.

One thread decides. What happens reaches it as items on one queue: notifications from PostgreSQL,
events from backends, and its own deadlines. It never spawns a process itself, keeps no state that
is not in the database or in a backend, and so may die at any instruction.
"""

from __future__ import annotations

import heapq
import logging
import queue
import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.utils import timezone

from lifecycle import queries, services
from lifecycle.backends import backend_for
from lifecycle.backends.base import Backend, BackendEvent, Sampled, Snapshot
from lifecycle.checkup import Checkup
from lifecycle.errors import (
    BackendUnavailable,
    LifecycleError,
    LostRace,
    SpawnRefused,
    UnknownWorker,
)
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.reconcile import Evict, Halt, Settle, Spawn, Start, Stop, Vanished, View, Wait, plan
from lifecycle.states import WITH_PROCESS
from lifecycle.types import Alive, DeploymentType, Gone, Instance, Pool, State, Wish, WorkerSpec

log = logging.getLogger(__name__)

RESYNC = timedelta(seconds=30)
RETRY = timedelta(seconds=1)
SHUTDOWN_STOP_S = 8.0
RECONNECT_S = 0.1
CONDEMNED_STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Notified:
    worker_id: str


@dataclass(frozen=True, slots=True)
class Observed:
    deployment_type: DeploymentType
    event: BackendEvent


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection to a backend is gone: what it showed means nothing now."""

    deployment_type: DeploymentType


@dataclass(frozen=True, slots=True)
class ShutDown:
    """End the fleet: stop every worker, then be done."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Be done; workers go on without a master."""


Item = Notified | Observed | Lost | ShutDown | Leave


@dataclass
class Master:
    backends: dict[DeploymentType, Backend]
    items: queue.SimpleQueue[Item] = field(default_factory=queue.SimpleQueue)
    alive: dict[str, Alive] = field(default_factory=dict)
    reachable: set[DeploymentType] = field(default_factory=set)
    deadlines: list[tuple[datetime, str]] = field(default_factory=list)
    resync_at: datetime = field(default_factory=timezone.now)
    checkup: Checkup = field(default_factory=Checkup)
    shutting_down: bool = False
    started: bool = False
    deposed: bool = False

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
            self._look_after()
            if self.shutting_down and not self.alive and not self._expected():
                return

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
            pause.wait(RECONNECT_S)

    def _next(self) -> set[str] | None:
        """Wait for the next things to happen; the workers they concern, or None to leave."""
        woken: set[str] = set()
        timeout = max(0.0, (self._deadline() - timezone.now()).total_seconds())
        try:
            items = [self.items.get(timeout=timeout)]
        except queue.Empty:
            items = []
        while not self.items.empty():
            items.append(self.items.get())
        for item in items:
            if self.deposed or isinstance(item, Leave):
                return None
            woken |= self._take(item)
        return woken | self._due(timezone.now())

    def _take(self, item: Item) -> set[str]:
        match item:
            case Notified(worker_id):
                return {worker_id}
            case Lost(deployment_type):
                self.reachable.discard(deployment_type)
            case ShutDown():
                self.shutting_down = True
                services.clear_wishes_without_auto_start()
                self.resync_at = timezone.now()
            case Observed(deployment_type, Snapshot() as snapshot):
                self._take_snapshot(deployment_type, snapshot)
            case Observed(deployment_type, Gone() as gone):
                return self._take_gone(deployment_type, gone)
            case Observed(_, Sampled(samples)):
                services.sampled(list(samples))
        return set()

    def _take_snapshot(self, deployment_type: DeploymentType, snapshot: Snapshot) -> None:
        for gone in snapshot.gone:
            self._take_gone(deployment_type, gone)
        self.alive = {alive.instance.worker_id: alive for alive in snapshot.alive}
        self.reachable.add(deployment_type)
        self.resync_at = timezone.now()

    def _take_gone(self, deployment_type: DeploymentType, gone: Gone) -> set[str]:
        """Commit an exit, then acknowledge it: it is reported until both are done."""
        worker_id = gone.instance.worker_id
        present = self.alive.get(worker_id)
        if present and present.instance == gone.instance:
            del self.alive[worker_id]
        try:
            services.exited(gone, random.random)
        except (LostRace, UnknownWorker) as error:
            log.info("an exit of an older instance: %s", error)
        try:
            self.backends[deployment_type].acknowledge(gone.instance)
        except BackendUnavailable as error:
            log.info("could not acknowledge %s: %s", gone.instance, error)
        return {worker_id}

    # --- deadlines ---

    def _deadline(self) -> datetime:
        own = [self.resync_at, self.checkup.due_at]
        return min(own + [at for at, _worker_id in self.deadlines[:1]])

    def _due(self, now: datetime) -> set[str]:
        due = set()
        while self.deadlines and self.deadlines[0][0] <= now:
            due.add(heapq.heappop(self.deadlines)[1])
        return due

    def _look_again(self, worker_id: str, at: datetime) -> None:
        if (at, worker_id) not in self.deadlines:
            heapq.heappush(self.deadlines, (at, worker_id))

    def _look_after(self) -> None:
        """Condemn who is unwell, and tell the backend to end it."""
        now = timezone.now()
        if now < self.checkup.due_at or self.shutting_down:
            return
        for instance, graceful in self.checkup.run(now):
            config = queries.runtime(instance.worker_id).config
            self._halt(config, instance, graceful, CONDEMNED_STOP_S)

    # --- plan and apply ---

    def reconcile(self, worker_ids: Iterable[str]) -> None:
        """Plan and act for these workers, or for all of them when a resync is due."""
        now = timezone.now()
        rows = queries.runtimes()
        if now < self.resync_at:
            ids = list(worker_ids)
            if not ids:
                return
            rows = rows.filter(config__worker_id__in=ids)
        else:
            self.resync_at = now + RESYNC
            self._evict_unknown()
        for runtime in rows:
            if self.deposed:
                return
            self._reconcile_one(runtime, now)

    def _reconcile_one(self, runtime: WorkerRuntime, now: datetime) -> None:
        view = self._view(runtime)
        action = plan(view, now, shutting_down=self.shutting_down)
        try:
            self._apply(runtime.config, view, action)
        except LostRace as error:
            log.info("looking again: %s", error)
            self._look_again(view.worker_id, now)
        except LifecycleError as error:
            log.warning("could not %s: %s", type(action).__name__.lower(), error)
            self._look_again(view.worker_id, now + RETRY)

    def _view(self, runtime: WorkerRuntime) -> View:
        config = runtime.config
        return View(
            worker_id=config.worker_id,
            enabled=config.enabled,
            wish=Wish(runtime.desired_state),
            wanted_generation=runtime.wanted_generation,
            state=State(runtime.state),
            generation=runtime.generation,
            restart_at=runtime.restart_at,
            condemned=bool(runtime.condemned),
            alive=self.alive.get(config.worker_id),
            reachable=config.deployment_type in self.reachable
            or config.deployment_type not in self.backends,
        )

    def _apply(self, config: WorkerConfig, view: View, action: object) -> None:
        match action:
            case Start(generation):
                config = services.claim_start(view.worker_id, generation)
                self._spawn(config, Instance(view.worker_id, generation))
            case Spawn(instance):
                self._spawn(config, instance)
            case Stop(cause):
                graceful, timeout_ms = services.stopping(view.instance, cause)
                self._halt(config, view.instance, graceful, timeout_ms / 1000)
            case Halt(instance):
                self._halt_again(config, instance)
            case Evict(instance):
                log.warning("ending a process that no row asks for: %s", instance)
                self._halt(config, instance, graceful=True, timeout_s=10.0)
            case Vanished(exit=how):
                now = timezone.now()
                gone = Gone(view.instance, how, config.runtime.started_at or now, now)
                services.exited(gone, random.random)
            case Settle():
                services.settled(view.worker_id)
            case Wait(until=datetime() as until):
                self._look_again(view.worker_id, until)

    def _spawn(self, config: WorkerConfig, instance: Instance) -> None:
        try:
            alive = backend_for(config).start(spec_of(config, instance))
        except SpawnRefused as error:
            services.spawn_refused(instance, str(error))
            return
        self.alive[instance.worker_id] = alive
        services.spawned(alive)

    def _halt(
        self, config: WorkerConfig, instance: Instance, graceful: bool, timeout_s: float
    ) -> None:
        if self.shutting_down:
            timeout_s = min(timeout_s, SHUTDOWN_STOP_S)
        backend = self.backends[DeploymentType(config.deployment_type)]
        backend.stop(instance, graceful=graceful, timeout_s=timeout_s)

    def _halt_again(self, config: WorkerConfig, instance: Instance) -> None:
        runtime = config.runtime
        if runtime.condemned:  # how it is ended was decided with its condemnation
            self._halt(config, instance, graceful=True, timeout_s=CONDEMNED_STOP_S)
        else:
            self._halt(config, instance, runtime.stop_graceful, self._remaining_s(runtime))

    @staticmethod
    def _remaining_s(runtime: WorkerRuntime) -> float:
        """What is left of the time to stop, also when a new master repeats the order."""
        since = runtime.stopping_since or timezone.now()
        spent = (timezone.now() - since).total_seconds()
        return max(0.0, runtime.stop_timeout_ms / 1000 - spent)

    def _evict_unknown(self) -> None:
        """End processes of workers whose config is gone."""
        if not self.alive:
            return
        known = set(WorkerConfig.objects.values_list("worker_id", flat=True))
        for worker_id in set(self.alive) - known:
            instance = self.alive[worker_id].instance
            log.warning("ending %s: its config is gone", instance)
            for backend in self.backends.values():
                backend.stop(instance, graceful=True, timeout_s=10.0)

    def _expected(self) -> bool:
        """While the fleet shuts down: does any row still wait for its process to end?"""
        return WorkerRuntime.objects.filter(state__in=WITH_PROCESS).exists()


def spec_of(config: WorkerConfig, instance: Instance) -> WorkerSpec:
    return WorkerSpec(
        instance=instance,
        queues=tuple(config.queues),
        pool=Pool(config.pool),
        concurrency=config.concurrency,
        env=dict(config.env_variables),
        args=tuple(config.command_args),
        working_directory=config.working_directory,
        log_max_bytes=config.log_max_mb * 1024 * 1024,
        log_files=config.log_files,
    )
