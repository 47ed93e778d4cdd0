"""Who locks several rows takes them in one order: nobody has to give way [L11]."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from lifecycle import backends, queries, services
from lifecycle.errors import BackendUnavailable
from lifecycle.master import Master
from lifecycle.models import WorkerConfig, WorkerLog, WorkerRuntime
from lifecycle.services.rows import locked, record
from lifecycle.types import DeploymentType, State
from tests.db.test_services import bring_up
from tests.threads import PATIENCE_S, alongside
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

MakeConfig = Callable[..., WorkerConfig]
WAITING = """
    SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees the first look
        cursor.execute(WAITING)
        return cursor.fetchone() is not None


def test_a_config_is_saved_while_the_row_of_its_worker_is_written(make_config: MakeConfig) -> None:
    """Each log row of a worker refers to its config."""
    config = make_config(worker_id="w")
    held = threading.Event()

    def save() -> None:
        assert held.wait(PATIENCE_S)
        services.update_config(config, {"name": "new"}, "ann")

    with alongside(save), locked("w") as runtime:
        held.set()
        eventually(somebody_waits)
        record(runtime, "noted", "while somebody saves its config", "bob")
    assert WorkerConfig.objects.get().name == "new"
    events = WorkerLog.objects.order_by("pk").values_list("event", flat=True)
    assert list(events) == ["created", "noted", "configured"]


def code_is_loaded() -> None:
    services.code_loaded(DeploymentType.LOCAL, "new")


def rollout_goes_on() -> None:
    services.advance_rollout(timezone.now())


def fleet_shuts_down() -> None:
    services.clear_wishes_without_auto_start()


@pytest.mark.parametrize("write_many", [code_is_loaded, rollout_goes_on, fleet_shuts_down])
def test_many_rows_are_locked_in_one_order(
    make_config: MakeConfig, write_many: Callable[[], None]
) -> None:
    """Whatever the order of a rollout's steps, or of the rows on the disk."""
    for name in ("a", "b"):
        bring_up(make_config(worker_id=name))
    for name in ("b", "a"):  # where it is on the disk now
        WorkerRuntime.objects.filter(config__worker_id=name).update(memory_usage_mb=1)
    services.begin_rollout(["b", "a"], "ann", max_surge=2)
    held = threading.Event()

    def write() -> None:
        assert held.wait(PATIENCE_S)
        write_many()

    with alongside(write), transaction.atomic():
        rows = WorkerRuntime.objects.select_for_update(of=("self",))
        rows.get(config__worker_id="a")
        held.set()
        eventually(somebody_waits)
        rows.get(config__worker_id="b")


def test_a_master_that_gave_way_leads_on(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at the worker again, at once; here its backend is away."""
    make_config(worker_id="w", auto_start=True)
    claim = services.claim_start
    given_way: list[str] = []

    def giving_way_once(worker_id: str, generation: int, *, lives: bool) -> WorkerConfig:
        if not given_way:
            given_way.append(worker_id)
            raise OperationalError("deadlock") from psycopg.errors.DeadlockDetected()
        return claim(worker_id, generation, lives=lives)

    class Away:
        def start(self, _spec: object, _meanwhile: object) -> None:
            raise BackendUnavailable("no agent")

    monkeypatch.setattr(services, "claim_start", giving_way_once)
    monkeypatch.setattr(backends, "backends", lambda: {DeploymentType.LOCAL: Away()})
    master = Master(backends={})
    master.reconcile(["w"])
    assert given_way == ["w"]
    assert queries.runtime("w").state == State.STARTING
