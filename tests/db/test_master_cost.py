"""What a look at the fleet costs: it must not grow with the fleet by more than rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lifecycle.backends.base import Sampled
from lifecycle.master import Master, Observed
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.types import DeploymentType, Instance, State

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
