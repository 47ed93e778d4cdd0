"""What workers report of their queues: rows, health, and who is looked at [L9]."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from lifecycle import queries, services
from lifecycle.consumption import WAITING_FOR_BROKER, Consumption
from lifecycle.errors import LostRace
from lifecycle.models import WorkerConfig, WorkerLog
from lifecycle.types import Instance, State
from tests.db.test_services import VERSIONS, bring_up, crashed_after

pytestmark = pytest.mark.django_db

Maker = Callable[..., WorkerConfig]
MISSING = Consumption(("worker.w",), missing=("default",))
UNFETCHED = Consumption(("default", "worker.w"), unfetched=("default",))


def beat(instance: Instance, found: Consumption, reason: str = "") -> None:
    assert services.heartbeat(
        instance, active_tasks=0, tasks_done=0, reason=reason, consumption=found
    )


def check(worker_id: str = "w") -> str:
    found = queries.health(queries.runtime(worker_id), timezone.now())
    assert found["healthy"] == (found["checks"]["consuming"] == "ok")
    return str(found["checks"]["consuming"])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (MISSING, "does not consume default"),
        (UNFETCHED, "fetches nothing from default though it has free slots"),
    ],
)
def test_who_does_not_consume_is_unhealthy_and_looked_at(
    make_config: Maker, found: Consumption, said: str
) -> None:
    instance = bring_up(make_config(worker_id="w"))
    beat(instance, Consumption(("default", "worker.w")))
    assert (check(), queries.vitals()) == ("ok", [])
    beat(instance, found, reason=str(found))
    assert check() == said
    (vitals,) = queries.vitals()
    assert (vitals.instance, vitals.not_consuming) == (instance, said)
    shown = queries.status(queries.runtime("w"), timezone.now())
    assert (shown["missing_queues"], shown["unfetched_queues"], shown["reason"]) == (
        list(found.missing),
        list(found.unfetched),
        said,
    )


def test_one_that_waits_for_its_broker_is_not_healthy_and_not_ill(make_config: Maker) -> None:
    beat(bring_up(make_config(worker_id="w")), Consumption(), reason=WAITING_FOR_BROKER)
    assert check() == WAITING_FOR_BROKER
    assert queries.vitals() == []


def test_one_that_drains_is_not_looked_at(make_config: Maker) -> None:
    instance = bring_up(make_config(worker_id="w"))
    beat(instance, MISSING)
    services.request_stop("w", "ann")
    services.stopping(instance, "asked to stop")
    assert queries.vitals() == []
    assert check() == "worker is stopping"


def test_the_log_says_what_changed(make_config: Maker) -> None:
    instance = bring_up(make_config(worker_id="w"))
    services.consumption_changed(instance, str(MISSING))
    services.consumption_changed(instance, "")
    rows = WorkerLog.objects.filter(event__in=["consuming", "not_consuming"]).order_by("id")
    assert [(row.event, row.level, row.actor) for row in rows] == [
        ("not_consuming", "warning", "w"),
        ("consuming", "info", "w"),
    ]
    with pytest.raises(LostRace):
        services.consumption_changed(Instance("w", instance.generation + 7), "of the past")


def test_a_successor_begins_with_its_own_queues(make_config: Maker) -> None:
    instance = bring_up(make_config(worker_id="w"))
    beat(instance, MISSING)
    services.request_restart("w", "ann")
    successor = Instance("w", instance.generation + 1)
    services.claim_succession("w", successor.generation)
    services.ready(successor, VERSIONS, ("default", "worker.w"))
    runtime = queries.runtime("w")
    assert (runtime.consumed_queues, runtime.missing_queues) == (["default", "worker.w"], [])
    assert queries.vitals() == []


def test_attempts_of_an_earlier_window_do_not_give_a_worker_up(make_config: Maker) -> None:
    """[L6] Two crashes now, one long ago: three in all, two in this window."""
    config = make_config(
        worker_id="w", restart_delay_ms=0, max_restart_attempts=2, restart_window_s=600
    )
    instance = bring_up(config)
    for _ in range(2):
        crashed_after(instance, 1)
        instance = Instance("w", instance.generation + 1)
        services.claim_start("w", instance.generation)
    runtime = queries.runtime("w")
    assert runtime.restart_attempts == 2
    runtime.attempts_since = timezone.now() - timedelta(seconds=601)
    runtime.save()
    crashed_after(instance, 1)
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.restart_attempts) == (State.CRASHED, 1)
    assert runtime.attempts_since is not None
    assert timezone.now() - runtime.attempts_since < timedelta(seconds=60)
    services.request_start("w", "ann")
    assert queries.runtime("w").attempts_since is None
