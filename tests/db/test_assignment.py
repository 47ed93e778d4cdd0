"""Accounts and their workers end to end [L15]: the strategy that people choose, what they are told
when accounts wait, and accounts that move when a real worker dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from lifecycle import queries, services
from lifecycle.duty_runner import DutyRunner
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.types import Instance
from sync import duties, sending
from sync.models import Account, Assignment
from sync.placement import Placement
from tests.db.api_helpers import errors_of
from tests.db.sync_stage import AccountsDuty, make_account
from tests.db.test_master import host, leading, with_process  # noqa: F401 - a fixture
from tests.host import Host, eventually

MakeConfig = Callable[..., WorkerConfig]
VERSIONS = {"worker": "1", "python": "3", "celery": "5"}
URL = "/api/v1/assignment"


def running(make_config: MakeConfig, **fields: Any) -> WorkerConfig:
    config = make_config(**fields)
    WorkerRuntime.objects.filter(pk=config.pk).update(state="running")
    return config


# --- the strategy ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_operator_chooses_the_strategy(api: Any, operator: User) -> None:
    client = api(operator)
    assert client.get(URL).json()["strategy"] == "least_loaded"
    answer = client.patch(URL, {"strategy": "sticky"}, format="json")
    assert (answer.status_code, answer.json()["strategy"]) == (200, "sticky")
    assert client.get(URL).json()["strategy"] == "sticky"
    assert Assignment.objects.count() == 1


@pytest.mark.django_db
def test_an_unknown_strategy_is_refused(api_client: Any) -> None:
    answer = api_client.patch(URL, {"strategy": "random"}, format="json")
    assert errors_of(answer, 400) == {"strategy": "invalid_choice"}
    assert errors_of(api_client.patch(URL, {}, format="json"), 400) == {"strategy": "required"}


@pytest.mark.django_db
def test_a_viewer_only_looks(api: Any, viewer: User) -> None:
    assert api(viewer).get(URL).status_code == 200
    assert api(viewer).patch(URL, {"strategy": "sticky"}, format="json").status_code == 403


@pytest.mark.django_db
def test_the_strategy_in_the_admin(client: Client, operator: User, viewer: User) -> None:
    client.force_login(operator)
    page = client.get("/admin/sync/assignment/", follow=True)
    assert page.status_code == 200
    assert b"round robin" in page.content
    client.post("/admin/sync/assignment/1/change/", {"strategy": "round_robin"})
    assert Assignment.objects.get().strategy == "round_robin"
    client.force_login(viewer)
    client.post("/admin/sync/assignment/1/change/", {"strategy": "sticky"})
    assert Assignment.objects.get().strategy == "round_robin"


# --- why accounts wait -------------------------------------------------------------------------


def test_what_people_are_told() -> None:
    assert Placement(waiting=0, served=3, capacity=3, running=1).reason == ""
    assert Placement(waiting=12, served=3, capacity=3, running=1).reason == (
        "no capacity: 12 accounts wait for a worker; raise max_accounts or add a worker"
    )
    assert Placement(waiting=1, served=0, capacity=0, running=0).reason == (
        "no worker is running: 1 account waits for one; start a worker"
    )
    assert Placement(waiting=1, served=0, capacity=9, running=1).reason == (
        "a worker is being chosen"
    )


@pytest.mark.django_db
def test_without_capacity_accounts_say_so(
    make_config: MakeConfig, api_client: Any, client: Client, admin_user: User
) -> None:
    worker = running(make_config, max_accounts=1)
    served = make_account(worker=worker)
    waiting = [make_account() for _ in range(3)]
    make_account(enabled=False)
    why = "no capacity: 3 accounts wait for a worker; raise max_accounts or add a worker"
    rows = {row["id"]: row for row in api_client.get("/api/v1/accounts").json()["results"]}
    assert rows[served.pk]["no_worker_because"] == ""
    assert {rows[account.pk]["no_worker_because"] for account in waiting} == {why}
    overview = api_client.get(URL).json()
    assert (overview["waiting_accounts"], overview["capacity"], overview["reason"]) == (3, 1, why)
    client.force_login(admin_user)
    for page in ("/admin/", "/admin/sync/account/"):
        assert why in client.get(page).content.decode()


@pytest.mark.django_db
def test_an_account_of_a_dead_worker_says_so(make_config: MakeConfig, api_client: Any) -> None:
    account = make_account(worker=make_config())
    body = api_client.get(f"/api/v1/accounts/{account.pk}").json()
    assert body["no_worker_because"].startswith("no worker is running: 1 account waits")


# --- with real processes -----------------------------------------------------------------------


@pytest.fixture
def duty(monkeypatch: pytest.MonkeyPatch) -> Iterator[DutyRunner]:
    """The real duty, woken by the database; what it sends is dropped."""
    monkeypatch.setattr(sending, "send_check", lambda *_: None)
    runner = DutyRunner(_ClosesItsConnection())
    yield runner
    runner.end()
    runner._thread.join()


class _ClosesItsConnection(AccountsDuty):
    """The test's database is dropped at the end: no connection may be left."""

    def run(self, now: datetime) -> datetime:
        try:
            return super().run(now)
        finally:
            connection.close()


def ready_worker(make_config: MakeConfig, worker_id: str, **fields: Any) -> WorkerRuntime:
    make_config(worker_id=worker_id, auto_start=True, **fields)
    with_process(worker_id)
    services.ready(Instance(worker_id, 1), VERSIONS)
    return queries.runtime(worker_id)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("fields", "within_s"),
    [
        # It is restarted at once, but never says that it is ready: its accounts wait a little.
        ({"restart_delay_ms": 0}, 5.0),
        # It crashes again and again meanwhile: that does not keep them longer.
        ({"restart_delay_ms": 0, "max_restart_attempts": 10_000, "crashes": True}, 5.0),
        # Nobody restarts it.
        ({"auto_restart": False}, 2.0),
    ],
    ids=["is restarted and not ready", "crashes again and again", "is not restarted"],
)
def test_accounts_of_a_killed_worker_move_in_time(
    host: Host,  # noqa: F811
    make_config: MakeConfig,
    duty: DutyRunner,
    fields: dict[str, Any],
    within_s: float,
) -> None:
    with leading(duty):
        crashes = fields.pop("crashes", False)
        dies = ready_worker(make_config, "dies", **fields)
        stays = ready_worker(make_config, "stays")
        on_dies = make_account(worker=dies.config, epoch=5)
        on_stays = make_account(worker=stays.config, epoch=5)
        if crashes:
            WorkerConfig.objects.filter(worker_id="dies").update(command_args=["exit=1"])
        assert dies.process_id is not None
        os.kill(dies.process_id, signal.SIGKILL)
        killed_at = time.monotonic()

        def moved() -> Account | None:
            return Account.objects.filter(pk=on_dies.pk, worker=stays.config).first()

        account = eventually(moved, "its account moves")
        took_s = time.monotonic() - killed_at
        assert account.epoch > 5
        assert took_s < within_s
        on_stays.refresh_from_db()
        assert on_stays.worker_id == stays.pk


@pytest.mark.django_db(transaction=True)
def test_accounts_of_a_worker_that_is_back_in_time_stay(
    host: Host,  # noqa: F811
    make_config: MakeConfig,
    duty: DutyRunner,
) -> None:
    with leading(duty):
        dies = ready_worker(make_config, "dies", restart_delay_ms=0)
        ready_worker(make_config, "stays")
        account = make_account(worker=dies.config)
        assert dies.process_id is not None
        os.kill(dies.process_id, signal.SIGKILL)
        with_process("dies", generation=2)
        services.ready(Instance("dies", 2), VERSIONS)
        threading.Event().wait(duties.RETURNING_S + 0.5)
        account.refresh_from_db()
        assert account.worker_id == dies.pk
