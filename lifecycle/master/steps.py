"""Carrying out what is planned: the row first, then the backend."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from django.db import DataError, IntegrityError
from django.utils import timezone

from lifecycle import services
from lifecycle.backends import backend_for
from lifecycle.backends.base import Backend
from lifecycle.errors import BackendUnavailable, LostRace, SpawnRefused, UnknownWorker
from lifecycle.master.agenda import Agenda
from lifecycle.master.sight import Sight
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.reconcile import (
    Action,
    CallOff,
    Evict,
    GiveUp,
    Halt,
    Settle,
    Spawn,
    Start,
    Stop,
    Succeed,
    Vanished,
    View,
    Wait,
    troubled,
)
from lifecycle.types import (
    SHUTDOWN_STOP_S,
    DeploymentType,
    Gone,
    Instance,
    Pool,
    State,
    WorkerSpec,
)

log = logging.getLogger(__name__)

CONDEMNED_STOP_S = 60.0
EVICTED_STOP_S = 10.0
LOOPBACK = "127.0.0.1"


@dataclass
class Steps:
    backends: dict[DeploymentType, Backend]
    sight: Sight
    agenda: Agenda
    is_shutting_down: Callable[[], bool]
    # Condemned, and past finishing anything; a new master, which does not know, drains them first.
    hung: set[Instance] = field(default_factory=set)
    # Rows of those that have ended, read while their keepers say how.
    seen: dict[Instance, WorkerRuntime] = field(default_factory=dict)

    def apply(self, config: WorkerConfig, view: View, action: Action) -> None:
        """Raises `LifecycleError`."""
        match action:
            case Start() | Succeed() | Spawn():
                self._bring_up(config, view, action)
            case Stop(cause):
                graceful, timeout_ms = services.stopping(view.instance, cause)
                self.halt(config, view.instance, graceful, timeout_ms / 1000)
            case Halt(instance):
                self._halt_again(config, instance)
            case Evict(instance):
                self._evict(config, instance)
            case CallOff(cause):
                services.called_off(view.worker_id, cause)
            case GiveUp(instance, cause):
                services.spawn_refused(instance, cause)
            case Vanished(instance, how):
                now = timezone.now()
                gone = Gone(instance, how, config.runtime.started_at or now, now)
                services.exited(gone, random.random)
            case Settle():
                services.settled(view.worker_id)
            case Wait(until=datetime() as until):
                self.agenda.add(view.worker_id, until)

    def _bring_up(self, config: WorkerConfig, view: View, action: Start | Succeed | Spawn) -> None:
        match action:
            case Start(generation):
                lives = generation in view.alive
                config = services.claim_start(view.worker_id, generation, lives=lives)
                self.spawn(config, view.other(generation))
            case Succeed(generation):
                config = services.claim_succession(view.worker_id, generation)
                self.spawn(config, view.other(generation), replaces=view.generation)
            case Spawn(instance):
                is_successor = instance != view.instance
                self.spawn(config, instance, view.generation if is_successor else None)

    def spawn(
        self,
        config: WorkerConfig,
        instance: Instance,
        replaces: int | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """What was claimed. Raises `LostRace`."""
        try:
            alive = backend_for(config).start(spec_of(config, instance, replaces), meanwhile)
        except SpawnRefused as error:
            services.spawn_refused(instance, str(error))
            return
        except BackendUnavailable as error:
            self._delay(instance, str(error))
            return
        self.sight.was_spawned(instance)
        services.spawned(alive)

    def _delay(self, instance: Instance, cause: str) -> None:
        """It could not be started now: again later, each time later, and not for ever."""
        now = timezone.now()
        before = self.sight.troubles.get(instance.worker_id)
        trouble = troubled(before, instance.generation, cause, now, random.random())  # noqa: S311 - jitter
        log.warning(
            "could not start %s (attempt %s): %s", instance, trouble.attempts, trouble.cause
        )
        self.sight.troubles[instance.worker_id] = trouble
        self.agenda.add(instance.worker_id, trouble.retry_at)
        wait_s = (trouble.retry_at - now).total_seconds()
        services.spawn_delayed(instance, f"can't be started, next try in {wait_s:.0f} s: {cause}")

    def halt(
        self, config: WorkerConfig, instance: Instance, graceful: bool, timeout_s: float
    ) -> bool:
        """False: it does not run."""
        if self.is_shutting_down():
            timeout_s = min(timeout_s, SHUTDOWN_STOP_S)
        return backend_for(config).stop(instance, graceful=graceful, timeout_s=timeout_s)

    def _evict(self, config: WorkerConfig, instance: Instance) -> None:
        log.warning("ending a process that no row asks for: %s", instance)
        if not self.halt(config, instance, graceful=True, timeout_s=EVICTED_STOP_S):
            self.sight.ended(instance)  # that it lives was told late: nobody will tell its end
            self.agenda.add(instance.worker_id, timezone.now())

    def condemn(self, config: WorkerConfig, instance: Instance, graceful: bool) -> None:
        """End one that is unwell. Raises `LifecycleError`: `_halt_again` repeats it."""
        if not graceful:
            self.hung.add(instance)
        self.halt(config, instance, graceful, CONDEMNED_STOP_S)

    def _halt_again(self, config: WorkerConfig, instance: Instance) -> None:
        runtime = config.runtime
        is_current = instance.generation != runtime.retiring_generation
        # A person who has one that is condemned stopped may also force it.
        if is_current and runtime.condemned and runtime.state != State.STOPPING:
            self.condemn(config, instance, graceful=instance not in self.hung)
        else:
            left_s = self._remaining_s(runtime, instance)
            self.halt(config, instance, runtime.stop_graceful, left_s)

    def _remaining_s(self, runtime: WorkerRuntime, instance: Instance) -> float:
        """What is left of the time to stop. A new master counts anew: the backend only ever
        hastens a stop that is under way."""
        return max(0.0, runtime.stop_timeout_ms / 1000 - self.sight.stopping_s(instance))

    def foresee(self, instance: Instance) -> None:
        """It has ended: how is told in a moment, and then there is only to decide and to write."""
        row = services.look(instance.worker_id)
        if row and row.generation == instance.generation:
            self.seen[instance] = row

    def take_gone(
        self,
        deployment_type: DeploymentType,
        gone: Gone,
        starts_now: Callable[[WorkerRuntime], int | None],
    ) -> bool:
        """Commit an exit, then acknowledge it: it is reported until both are done. False: the
        database refuses the row.

        A restart that is due at once is claimed with the exit and spawned before anything else.
        """
        self.sight.ended(gone.instance)
        self.hung.discard(gone.instance)
        try:
            seen = self.seen.pop(gone.instance, None)
            config = services.exited(gone, random.random, starts_now, seen)
            if config:
                claimed = Instance(config.worker_id, config.runtime.generation)
                self.spawn(config, claimed, meanwhile=services.make_durable)
        except (LostRace, UnknownWorker) as error:
            log.info("an exit of an older instance: %s", error)
            services.make_durable()  # perhaps it was claimed anew, and nothing has waited for that
        except (DataError, IntegrityError):
            log.exception("could not write down the end of %s", gone.instance)
            return False
        try:
            self.backends[deployment_type].acknowledge(gone.instance)
        except BackendUnavailable as error:
            log.info("could not acknowledge %s: %s", gone.instance, error)
        return True

    def evict_unknown(self) -> None:
        """End processes of workers whose config is gone."""
        if not self.sight.alive:
            return
        known = set(WorkerConfig.objects.values_list("worker_id", flat=True))
        for worker_id in set(self.sight.alive) - known:
            for generation in self.sight.alive[worker_id]:
                log.warning("ending generation %s of %s: its config is gone", generation, worker_id)
                for backend in self.backends.values():
                    instance = Instance(worker_id, generation)
                    with suppress(BackendUnavailable):  # the next resync finds it again
                        backend.stop(instance, graceful=True, timeout_s=EVICTED_STOP_S)


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
        port=config.port,
        bind=LOOPBACK if config.deployment_type == DeploymentType.LOCAL else config.host,
        replaces=replaces,
    )
