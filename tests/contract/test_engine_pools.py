"""The engine in a real Celery worker, in each pool: it watches, and gives back at its stop [S2]."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import kombu
import psutil
import pytest
from celery import current_app
from django.db import connection
from django.utils import timezone

from crm import embedded
from crm.env import env
from lifecycle.models import WorkerConfig, WorkerRuntime
from sync import duties, sending
from sync.models import Account, Message
from tests.contract.engine_worker import WORKER
from tests.db.sync_stage import make_account
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

ACCOUNTS = 200


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    server = embedded.valkey(tmp_path, tmp_path / "run")
    running = subprocess.Popen(server.command, stdout=subprocess.DEVNULL)
    try:
        embedded.wait_valkey(tmp_path / "run")
        yield f"redis+socket://{tmp_path / 'run' / 'valkey.sock'}?virtual_host=0"
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def start(broker: str, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Start the worker with a pool; ended with the test."""
    started: list[subprocess.Popen[bytes]] = []
    host = env.socket_dir / "pg"
    name = connection.settings_dict["NAME"]

    def begin(pool: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.contract.engine_worker", pool, "2"],
                stdout=log,
                stderr=log,
                env=os.environ
                | {
                    "BROKER_URL": broker,
                    "DATABASE_URL": f"postgresql://muster@/{name}?host={host}&port=5432",
                    "MUSTER_PART": "worker",
                },
            )
        started.append(worker)
        return worker

    yield begin
    for worker in started:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    print((tmp_path / "worker.log").read_text())


@pytest.fixture
def config(make_config: Callable[..., WorkerConfig]) -> WorkerConfig:
    made = make_config(worker_id=WORKER, max_accounts=ACCOUNTS)
    WorkerRuntime.objects.filter(pk=made.pk).update(
        state="starting", desired_state="running", generation=1, last_generation=1
    )
    return made


def send(broker: str, claims: list[sending.Claim]) -> None:
    with kombu.Connection(broker) as link, current_app.amqp.Producer(link) as producer:
        for one in claims:
            sending.send_check(producer, one, timezone.now() + timedelta(seconds=60))


def runtime() -> WorkerRuntime:
    return WorkerRuntime.objects.get()


def backends() -> int:
    """Connections of the worker to the database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'muster-worker'"
        )
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize(("pool", "connections"), [("threads", 8), ("solo", 8), ("prefork", 14)])
def test_a_worker_watches_two_hundred_accounts_and_gives_them_back(
    start: Any, broker: str, config: WorkerConfig, pool: str, connections: int
) -> None:
    for _ in range(ACCOUNTS):
        make_account(worker=config, session={"token": "t"})
    worker = start(pool)
    eventually(lambda: runtime().state == "running", 60)
    send(broker, duties.claim(timezone.now(), ACCOUNTS))
    eventually(lambda: Account.objects.exclude(last_sync_at=None).count() == ACCOUNTS, 60)
    assert Message.objects.count() == ACCOUNTS
    assert Account.objects.filter(claimed_generation=1).count() == ACCOUNTS
    assert 1 <= backends() <= connections
    again = Account.objects.first()
    assert again is not None
    asked = timezone.now()
    Account.objects.filter(pk=again.pk).update(next_due_at=asked)  # as a reply would
    send(broker, duties.claim(asked))
    # A wait takes no slot of the pool: there is one for the newer check, which begins at once.
    eventually(lambda: Account.objects.filter(pk=again.pk, watched_at__gt=asked).exists(), 10)

    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: Account.objects.filter(claimed_generation=None).count() == ACCOUNTS, 10)
    assert worker.wait(20) == 0
    assert time.monotonic() - begun < 15
    assert not Account.objects.filter(next_due_at__gt=timezone.now()).exists()
    assert not psutil.pid_exists(worker.pid)
