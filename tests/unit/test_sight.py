"""What a master believes to live, by snapshots that come late [L10, L11]."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from lifecycle.backends.base import Snapshot
from lifecycle.master.sight import SNAPSHOT_LAG_S, Sight
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.types import Alive, DeploymentType, Instance, ProcessRef, State

WORKER = Instance("w", 4)
EMPTY = Snapshot((), ())


def snapshot_of(instance: Instance) -> Snapshot:
    process = ProcessRef(1, 1, "boot")
    return Snapshot((Alive(instance, process, datetime.now(UTC)),), ())


def row(state: State) -> WorkerRuntime:
    config = WorkerConfig(worker_id=WORKER.worker_id)
    return WorkerRuntime(config=config, state=state.value, generation=WORKER.generation)


def test_a_snapshot_that_was_on_its_way_does_not_hide_what_was_spawned_meanwhile() -> None:
    sight = Sight()
    sight.was_spawned(WORKER)
    sight.take(DeploymentType.LOCAL, EMPTY, time.monotonic())
    assert sight.alive == {"w": {4}}
    sight.take(DeploymentType.LOCAL, EMPTY, time.monotonic() + SNAPSHOT_LAG_S + 1)
    assert sight.alive == {}


def test_an_end_is_believed_whatever_was_spawned() -> None:
    sight = Sight()
    sight.was_spawned(WORKER)
    sight.ended(WORKER)
    sight.take(DeploymentType.LOCAL, EMPTY, time.monotonic())
    assert sight.alive == {}


def test_since_when_a_process_is_missed() -> None:
    sight = Sight()
    sight.take(DeploymentType.LOCAL, snapshot_of(WORKER), time.monotonic())
    assert sight.unseen_s(row(State.RUNNING)) == 0
    sight.take(DeploymentType.LOCAL, EMPTY, time.monotonic())
    first = sight.unseen_s(row(State.RUNNING))
    assert 0 <= first <= sight.unseen_s(row(State.RUNNING))
    sight.lives(WORKER)
    assert sight.unseen_s(row(State.RUNNING)) == 0
    assert sight.unseen_s(row(State.STOPPED)) == 0


def test_the_time_to_stop_begins_with_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It came as a successor long ago: that it waited to be ready then is none of its stop [L7]."""
    now = 1000.0
    monkeypatch.setattr("lifecycle.master.sight.time.monotonic", lambda: now)
    sight = Sight()
    running = row(State.RUNNING)
    running.successor_generation, running.successor_started_at = 5, datetime.now(UTC)
    sight.view(running, datetime.now(UTC), ())
    now += 3600
    assert sight.stopping_s(Instance("w", 5)) == 0
    now += 7
    assert sight.stopping_s(Instance("w", 5)) == 7
    sight.ended(Instance("w", 5))
    assert sight.stopping_s(Instance("w", 5)) == 0
