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
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import Error as DatabaseError
from django.utils import timezone

from lifecycle import queries, services
from lifecycle.backends import backend_for
from lifecycle.backends.base import Backend, BackendEvent, Sampled, Snapshot
from lifecycle.checkup import Checkup
from lifecycle.clocks import Clocks
from lifecycle.errors import (
    BackendUnavailable,
    LifecycleError,
    LostRace,
    SpawnRefused,
    UnknownWorker,
)
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.reconcile import (
    Action,
    CallOff,
    Evict,
    Halt,
    Settle,
    Spawn,
    Start,
    Stop,
    Succeed,
    Vanished,
    View,
    Wait,
    plan,
)
from lifecycle.states import WITH_PROCESS
from lifecycle.types import Alive, DeploymentType, Gone, Instance, Pool, State, Wish, WorkerSpec

log = logging.getLogger(__name__)

RESYNC = timedelta(seconds=30)
RETRY = timedelta(seconds=1)
SHUTDOWN_STOP_S = 8.0
RECONNECT_S = 0.1
LONGEST_SLEEP_S = 5.0  # so that a set clock is noticed
CONDEMNED_STOP_S = 60.0
EVICTED_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Notified:
    worker_id: str


@dataclass(frozen=True, slots=True)
class Observed:
    deployment_type: DeploymentType
    event: BackendEvent
    at: float = field(default_factory=time.monotonic)


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
    alive: dict[str, set[int]] = field(default_factory=dict)  # generations by worker id
    since: dict[Instance, float] = field(default_factory=dict)  # see _since_s
    spawned: dict[Instance, float] = field(default_factory=dict)  # since the last snapshot
    reachable: set[DeploymentType] = field(default_factory=set)
    deadlines: list[tuple[datetime, str]] = field(default_factory=list)
    resync_at: datetime = field(default_factory=timezone.now)
    checkup: Checkup = field(default_factory=Checkup)
    clocks: Clocks = field(default_factory=Clocks)
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
        self._notice_clock_jump()
        timeout = max(0.0, (self._deadline() - timezone.now()).total_seconds())
        try:
            items = [self.items.get(timeout=min(timeout, LONGEST_SLEEP_S))]
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
            case Observed(deployment_type, Snapshot() as snapshot, at):
                self._take_snapshot(deployment_type, snapshot, at)
            case Observed(_, Alive() as alive):
                self._lives(alive.instance)
                self._write_down([alive])
                return {alive.instance.worker_id}
            case Observed(deployment_type, Gone() as gone):
                return self._take_gone(deployment_type, gone)
            case Observed(_, Sampled(samples)):
                services.sampled(list(samples))
        return set()

    def _take_snapshot(
        self, deployment_type: DeploymentType, snapshot: Snapshot, at: float
    ) -> None:
        """Only what was spawned after it was taken can live and not be in it."""
        for gone in snapshot.gone:
            self._take_gone(deployment_type, gone)
        self.alive = {}
        self.spawned = {i: spawned_at for i, spawned_at in self.spawned.items() if spawned_at > at}
        for instance in (*(alive.instance for alive in snapshot.alive), *self.spawned):
            self._lives(instance)
        self._write_down(snapshot.alive)
        self.reachable.add(deployment_type)
        self.resync_at = timezone.now()

    def _take_gone(self, deployment_type: DeploymentType, gone: Gone) -> set[str]:
        """Commit an exit, then acknowledge it: it is reported until both are done.

        A restart that is due at once is claimed with the exit and spawned before anything else.
        """
        self._ended(gone.instance)
        try:
            config = services.exited(gone, random.random, self._starts_now)
            if config:
                self._spawn(config, Instance(config.worker_id, config.runtime.generation))
        except (LostRace, UnknownWorker) as error:
            log.info("an exit of an older instance: %s", error)
        except BackendUnavailable as error:  # planned again below, as a claim without a process
            log.warning("could not restart %s: %s", gone.instance.worker_id, error)
        try:
            self.backends[deployment_type].acknowledge(gone.instance)
        except BackendUnavailable as error:
            log.info("could not acknowledge %s: %s", gone.instance, error)
        return {gone.instance.worker_id}

    def _starts_now(self, runtime: WorkerRuntime) -> int | None:
        """The generation to start, if that is the plan for this row."""
        if self.deposed:
            return None
        now = timezone.now()
        action = plan(self._view(runtime, now), now, shutting_down=self.shutting_down)
        return action.generation if isinstance(action, Start) else None

    @staticmethod
    def _write_down(found: Iterable[Alive]) -> None:
        """Processes that a master had started when it was killed, before it wrote down their pid,
        or that started after it had stopped waiting."""
        known = queries.process_ids()
        for alive in found:
            if alive.process.pid not in known:
                with suppress(LostRace, UnknownWorker):
                    services.spawned(alive)

    def _lives(self, instance: Instance) -> None:
        self.alive.setdefault(instance.worker_id, set()).add(instance.generation)

    def _ended(self, instance: Instance) -> None:
        self.spawned.pop(instance, None)
        self.since.pop(instance, None)
        generations = self.alive.get(instance.worker_id, set())
        generations.discard(instance.generation)
        if not generations:
            self.alive.pop(instance.worker_id, None)

    # --- deadlines ---

    def _notice_clock_jump(self) -> None:
        """Deadlines by a clock that was set mean nothing: look at everything again."""
        _passed_s, jump_s = self.clocks.look()
        if jump_s:
            log.warning("the clock was set by %.0f s; looking at everything again", jump_s)
            self.deadlines.clear()
            self.resync_at = self.checkup.due_at = timezone.now()

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
            try:
                config = queries.runtime(instance.worker_id).config
                self._halt(config, instance, graceful, CONDEMNED_STOP_S)
            except LifecycleError as error:  # condemned it is: the plan will say it again
                log.warning("could not end %s: %s", instance, error)
                self._look_again(instance.worker_id, now + RETRY)

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
        view = self._view(runtime, now)
        action = plan(view, now, shutting_down=self.shutting_down)
        try:
            self._apply(runtime.config, view, action)
        except DatabaseError:
            raise  # without its database a master must not decide
        except LostRace as error:
            log.info("looking again: %s", error)
            self._look_again(view.worker_id, now)
        except LifecycleError as error:
            log.warning("could not %s: %s", type(action).__name__.lower(), error)
            self._look_again(view.worker_id, now + RETRY)
        except Exception:  # one worker's trouble must not keep the others from being looked after
            log.exception("could not carry out %s", action)
            self._look_again(view.worker_id, now + RETRY)

    def _view(self, runtime: WorkerRuntime, now: datetime) -> View:
        config = runtime.config
        restart_at = runtime.restart_at
        if restart_at and restart_at - now > timedelta(milliseconds=config.max_restart_delay_ms):
            restart_at = now  # further away than the policy ever says: the clock was set back
        return View(
            worker_id=config.worker_id,
            enabled=config.enabled,
            wish=Wish(runtime.desired_state),
            wanted_generation=runtime.wanted_generation,
            replace_first=runtime.replace_first and runtime.stop_graceful,
            state=State(runtime.state),
            generation=runtime.generation,
            last_generation=runtime.last_generation,
            successor=runtime.successor_generation,
            successor_since=self._successor_since(runtime, now),
            retiring=runtime.retiring_generation,
            restart_at=restart_at,
            condemned=bool(runtime.condemned),
            alive=frozenset(self.alive.get(config.worker_id, ())),
            reachable=config.deployment_type in self.reachable
            or config.deployment_type not in self.backends,
        )

    def _apply(self, config: WorkerConfig, view: View, action: Action) -> None:
        match action:
            case Start() | Succeed() | Spawn():
                self._bring_up(config, view, action)
            case Stop(cause):
                graceful, timeout_ms = services.stopping(view.instance, cause)
                self._halt(config, view.instance, graceful, timeout_ms / 1000)
            case Halt(instance):
                self._halt_again(config, instance)
            case Evict(instance):
                log.warning("ending a process that no row asks for: %s", instance)
                self._halt(config, instance, graceful=True, timeout_s=EVICTED_STOP_S)
            case CallOff(cause):
                services.called_off(view.worker_id, cause)
            case Vanished(instance, how):
                now = timezone.now()
                gone = Gone(instance, how, config.runtime.started_at or now, now)
                services.exited(gone, random.random)
            case Settle():
                services.settled(view.worker_id)
            case Wait(until=datetime() as until):
                self._look_again(view.worker_id, until)

    def _bring_up(self, config: WorkerConfig, view: View, action: Start | Succeed | Spawn) -> None:
        match action:
            case Start(generation):
                config = services.claim_start(view.worker_id, generation)
                self._spawn(config, view.other(generation))
            case Succeed(generation):
                config = services.claim_succession(view.worker_id, generation)
                self._spawn(config, view.other(generation), replaces=view.generation)
            case Spawn(instance):
                is_successor = instance != view.instance
                self._spawn(config, instance, view.generation if is_successor else None)

    def _spawn(self, config: WorkerConfig, instance: Instance, replaces: int | None = None) -> None:
        try:
            alive = backend_for(config).start(spec_of(config, instance, replaces))
        except SpawnRefused as error:
            services.spawn_refused(instance, str(error))
            return
        self._lives(instance)
        self.spawned[instance] = time.monotonic()
        services.spawned(alive)

    def _halt(
        self, config: WorkerConfig, instance: Instance, graceful: bool, timeout_s: float
    ) -> None:
        if self.shutting_down:
            timeout_s = min(timeout_s, SHUTDOWN_STOP_S)
        backend = self.backends[DeploymentType(config.deployment_type)]
        backend.stop(instance, graceful=graceful, timeout_s=timeout_s)

    def _successor_since(self, runtime: WorkerRuntime, now: datetime) -> datetime | None:
        if runtime.successor_generation is None or runtime.successor_started_at is None:
            return None
        instance = Instance(runtime.config.worker_id, runtime.successor_generation)
        return now - timedelta(seconds=self._since_s(instance))

    def _since_s(self, instance: Instance) -> float:
        """Seconds since this master first saw the instance begin to stop, or to succeed. Not by
        what others wrote down: the clocks of hosts differ, and are set."""
        now = time.monotonic()
        return now - self.since.setdefault(instance, now)

    def _halt_again(self, config: WorkerConfig, instance: Instance) -> None:
        runtime = config.runtime
        if instance.generation == runtime.retiring_generation:
            self._halt(
                config, instance, runtime.stop_graceful, self._remaining_s(runtime, instance)
            )
        elif runtime.condemned:  # how it is ended was decided with its condemnation
            self._halt(config, instance, graceful=True, timeout_s=CONDEMNED_STOP_S)
        else:
            self._halt(
                config, instance, runtime.stop_graceful, self._remaining_s(runtime, instance)
            )

    def _remaining_s(self, runtime: WorkerRuntime, instance: Instance) -> float:
        """What is left of the time to stop. A new master counts anew: the backend only ever
        hastens a stop that is under way."""
        return max(0.0, runtime.stop_timeout_ms / 1000 - self._since_s(instance))

    def _evict_unknown(self) -> None:
        """End processes of workers whose config is gone."""
        if not self.alive:
            return
        known = set(WorkerConfig.objects.values_list("worker_id", flat=True))
        for worker_id in set(self.alive) - known:
            for generation in self.alive[worker_id]:
                log.warning("ending generation %s of %s: its config is gone", generation, worker_id)
                for backend in self.backends.values():
                    instance = Instance(worker_id, generation)
                    with suppress(BackendUnavailable):  # the next resync finds it again
                        backend.stop(instance, graceful=True, timeout_s=EVICTED_STOP_S)

    def _expected(self) -> bool:
        """While the fleet shuts down: does any row still wait for its process to end?"""
        return WorkerRuntime.objects.filter(state__in=WITH_PROCESS).exists()


def spec_of(config: WorkerConfig, instance: Instance, replaces: int | None = None) -> WorkerSpec:
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
        max_memory_mb=config.max_memory_mb,
        cpu_cores=config.cpu_cores,
        replaces=replaces,
    )
