"""What a look at the fleet costs: it must not grow with the fleet by more than rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lifecycle import queries
from lifecycle.backends.base import Sampled
from lifecycle.master import Master, Observed
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.types import Alive, DeploymentType, Instance, ProcessRef, State

pytestmark = pytest.mark.django_db


def queries_of_a_tick(names: list[str]) -> int:
    """Statements for one resync, one checkup and the samples of all of these running workers."""
    now = timezone.now()
    WorkerRuntime.objects.update(
        desired_state="running",
        state=State.RUNNING,
        generation=1,
        wanted_generation=1,
        last_generation=1,
        process_id=4711,
        started_at=now,
        last_heartbeat_at=now,
    )
    master = Master(backends={})
    master.sight.alive = {name: {1} for name in names}
    master.sight.reachable = {DeploymentType.LOCAL}
    master.checkup.due_at = now - timedelta(seconds=1)
    samples = tuple((Instance(name, 1), 1.0, 20.0) for name in names)
    master.items.put(Observed(DeploymentType.LOCAL, Sampled(samples)))
    with CaptureQueriesContext(
        connection,
    ) as seen:
        woken = master._next()
        assert woken is not None
        master.reconcile(woken)
        master._look_after()
    return len(seen)


def test_a_tick_asks_as_much_for_many_workers_as_for_few(
    make_config: Callable[..., WorkerConfig],
) -> None:
    few = [make_config().worker_id for _ in range(2)]
    asked = queries_of_a_tick(few)
    many = few + [make_config().worker_id for _ in range(30)]
    assert queries_of_a_tick(many) == asked


def test_a_process_that_was_started_costs_a_look_at_its_own_row(
    make_config: Callable[..., WorkerConfig],
) -> None:
    """And the pid of another, which may be stale, says nothing about it."""
    new, other = make_config(worker_id="new"), make_config(worker_id="other")
    WorkerRuntime.objects.update(state=State.STARTING, generation=1, last_generation=1)
    WorkerRuntime.objects.filter(pk=other.pk).update(state=State.RUNNING, process_id=4711)
    assert queries.process_ids(["new"]) == {("new", None)}
    alive = Alive(Instance("new", 1), ProcessRef(4711, 1, "boot"), timezone.now())
    assert Master(backends={})._take(Observed(DeploymentType.LOCAL, alive)) == {"new"}
    assert WorkerRuntime.objects.get(pk=new.pk).process_id == 4711
