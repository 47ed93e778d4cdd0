"""What backends showed: which processes live, and since when this master has known them."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lifecycle.backends.base import Snapshot
from lifecycle.models import WorkerRuntime
from lifecycle.policy import longest_wait
from lifecycle.reconcile import Trouble, View
from lifecycle.states import WITH_PROCESS
from lifecycle.types import DeploymentType, Instance, State, Wish

# A loaded host reads a snapshot late.
SNAPSHOT_LAG_S = 10.0


@dataclass
class Sight:
    alive: dict[str, set[int]] = field(default_factory=dict)  # generations by worker id
    reachable: set[DeploymentType] = field(default_factory=set)
    troubles: dict[str, Trouble] = field(default_factory=dict)  # by worker id
    _succeeding: dict[Instance, float] = field(default_factory=dict)  # since when; also below
    _stopping: dict[Instance, float] = field(default_factory=dict)
    _spawned: dict[Instance, float] = field(default_factory=dict)  # since the last snapshot
    _unseen: dict[Instance, float] = field(default_factory=dict)  # see unseen_s

    def lives(self, instance: Instance) -> None:
        self.alive.setdefault(instance.worker_id, set()).add(instance.generation)
        trouble = self.troubles.get(instance.worker_id)
        if trouble and trouble.generation <= instance.generation:
            del self.troubles[instance.worker_id]

    def was_spawned(self, instance: Instance) -> None:
        self.lives(instance)
        self._spawned[instance] = time.monotonic()

    def ended(self, instance: Instance) -> None:
        for since in (self._spawned, self._unseen, self._succeeding, self._stopping):
            since.pop(instance, None)
        generations = self.alive.get(instance.worker_id, set())
        generations.discard(instance.generation)
        if not generations:
            self.alive.pop(instance.worker_id, None)

    def take(self, deployment_type: DeploymentType, snapshot: Snapshot, at: float) -> None:
        """Only what was spawned after it was taken can live and not be in it. It was read at `at`,
        and may have been on its way for a while: what was spawned shortly before is kept, too, and
        its end is told if it has ended."""
        self.alive = {}
        oldest = at - SNAPSHOT_LAG_S
        self._spawned = {i: then for i, then in self._spawned.items() if then > oldest}
        for instance in (*(alive.instance for alive in snapshot.alive), *self._spawned):
            self.lives(instance)
        self.reachable.add(deployment_type)

    def lost(self, deployment_type: DeploymentType) -> None:
        """Its next agent may well be able to do what this one was not."""
        self.reachable.discard(deployment_type)
        self.troubles.clear()

    def stopping_s(self, instance: Instance) -> float:
        """Seconds since this master first saw the instance begin to stop. Not by what others wrote
        down: the clocks of hosts differ, and are set."""
        now = time.monotonic()
        return now - self._stopping.setdefault(instance, now)

    def unseen_s(self, runtime: WorkerRuntime) -> float:
        """Seconds since this master first missed the process that the row has; 0: it is there, or
        there is to be none."""
        instance = Instance(runtime.config.worker_id, runtime.generation)
        is_there = instance.generation in self.alive.get(instance.worker_id, ())
        if is_there or State(runtime.state) not in WITH_PROCESS:
            self._unseen.pop(instance, None)
            return 0.0
        now = time.monotonic()
        return now - self._unseen.setdefault(instance, now)

    def view(
        self, runtime: WorkerRuntime, now: datetime, backends: Collection[DeploymentType]
    ) -> View:
        """One worker, as its row and its backend have it."""
        config = runtime.config
        restart_at = runtime.restart_at
        cap = timedelta(milliseconds=config.max_restart_delay_ms)
        if restart_at and restart_at - now > longest_wait(cap):
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
            or config.deployment_type not in backends,
            trouble=self.troubles.get(config.worker_id),
            unseen_s=self.unseen_s(runtime),
        )

    def _successor_since(self, runtime: WorkerRuntime, now: datetime) -> datetime | None:
        if runtime.successor_generation is None or runtime.successor_started_at is None:
            return None
        instance = Instance(runtime.config.worker_id, runtime.successor_generation)
        at = time.monotonic()
        return now - timedelta(seconds=at - self._succeeding.setdefault(instance, at))
