"""The engine in a real Celery worker, in each pool: it watches, and gives back at its stop [S2]."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import kombu
import psutil
import pytest
import redis
from celery import current_app
from django.db import connection
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from crm import embedded
from crm.env import env
from lifecycle.models import WorkerConfig, WorkerRuntime
from sync import duties, sending
from sync.models import Account, Message
from tests.contract.engine_worker import WORKER
from tests.db.sync_stage import make_account
from tests.doubles.process import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

ACCOUNTS = 200
COMMAND = (sys.executable, "-m", "tests.contract.engine_worker")
FAILURES = 3


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
def start(broker: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the worker with a pool, and maybe a port; ended with the test."""
    started: list[subprocess.Popen[bytes]] = []
    host = env.socket_dir / "pg"
    name = connection.settings_dict["NAME"]

    def begin(pool: str, port: int | None = None) -> subprocess.Popen[bytes]:
        with (tmp_path / "worker.log").open("wb") as log:
            worker = subprocess.Popen(
                [*COMMAND, pool, "2", *([str(port)] if port else [])],
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
    send(broker, duties.claim(asked, ACCOUNTS))
    # A wait takes no slot of the pool: there is one for the newer check, which begins at once.
    eventually(lambda: Account.objects.filter(pk=again.pk, watched_at__gt=asked).exists(), 10)

    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: Account.objects.filter(claimed_generation=None).count() == ACCOUNTS, 10)
    assert worker.wait(20) == 0
    assert time.monotonic() - begun < 15
    assert not Account.objects.filter(next_due_at__gt=timezone.now()).exists()
    assert not psutil.pid_exists(worker.pid)


# --- its own port ------------------------------------------------------------------------------


class Port:
    """What a worker answers on its own port."""

    def __init__(self) -> None:
        self.number = free_port()
        self.token = env.worker_metrics_token

    def get(self, path: str, token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(f"http://127.0.0.1:{self.number}{path}", headers=headers, timeout=10)

    def is_well(self) -> bool:
        """Also False when nothing listens."""
        try:
            return self.get("/healthz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def series(self) -> dict[tuple[str, ...], float]:
        """(name, values of its labels but the worker) -> value."""
        answer = self.get("/metrics", self.token)
        assert answer.status_code == httpx.codes.OK
        return {
            (one.name, *(text for name, text in one.labels.items() if name != "worker")): one.value
            for family in text_string_to_metric_families(answer.text)
            for one in family.samples
        }


@pytest.mark.parametrize("pool", ["threads", "solo", "prefork"])
def test_a_worker_answers_on_its_own_port(
    start: Any, broker: str, config: WorkerConfig, pool: str
) -> None:
    """[L1] Whether it is well, to whoever asks; its series, to who has the token."""
    port = Port()
    worker = start(pool, port.number)
    eventually(port.is_well, 60)
    assert port.get("/healthz").json() == {"status": "ok"}
    for token in ("", "wrong"):
        refused = port.get("/metrics", token)
        assert refused.status_code == httpx.codes.UNAUTHORIZED
        assert refused.json()["errors"][0]["code"] == "unauthorized"
    assert port.get("/metrics/../else").status_code == httpx.codes.NOT_FOUND
    with kombu.Connection(broker) as link, current_app.amqp.Producer(link) as producer:
        for _ in range(FAILURES):
            current_app.send_task("tests.fail", queue=f"worker.{WORKER}", producer=producer)
    failed = ("muster_worker_tasks_total", "failed")
    eventually(lambda: port.series()[failed] == FAILURES)
    eventually(lambda: runtime().error_count == FAILURES)  # also those of pool children [L3, L17]
    assert runtime().last_error == "ValueError: as told"
    found = port.series()
    assert found["muster_worker_tasks_total", "received"] == FAILURES
    assert found["muster_worker_tasks_total", "succeeded"] == 0
    assert found["muster_worker_consumed_queue", f"worker.{WORKER}"] == 1
    assert found["muster_worker_active_tasks",] == 0
    assert found["muster_worker_broker_reconnects_total",] == 0
    assert found["process_resident_memory_bytes",] > 1024 * 1024
    assert found["process_cpu_seconds_total",] > 0

    worker.send_signal(signal.SIGSTOP)
    with pytest.raises(httpx.TimeoutException):
        httpx.get(f"http://127.0.0.1:{port.number}/healthz", timeout=1)
    worker.send_signal(signal.SIGCONT)
    eventually(port.is_well)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    with socket.create_server(("127.0.0.1", port.number)):
        pass  # free: no child holds it


def test_a_port_that_is_in_use_keeps_no_worker_down(start: Any, config: WorkerConfig) -> None:
    """It says so, and takes the port when it is free: so does a successor of a restart."""
    port = Port()
    with socket.create_server(("127.0.0.1", port.number)):
        start("threads", port.number)
        eventually(lambda: runtime().state == "running", 60)
        rows = config.logs.filter(event="port")
        eventually(rows.exists, 40)
        (said,) = rows
        assert said.level == "warning"
        assert f"port {port.number} on 127.0.0.1 can't be taken: Address already in use;" in (
            said.message
        )
    eventually(port.is_well)
    eventually(lambda: rows.all().count() == 2)
    assert runtime().state == "running"


def test_a_worker_without_its_broker_says_so(start: Any, broker: str, config: WorkerConfig) -> None:
    port = Port()
    start("threads", port.number)
    eventually(port.is_well, 60)
    url = urlsplit(broker)
    with redis.Redis(unix_socket_path=url.path) as control:
        control.execute_command("CLIENT", "PAUSE", 60_000, "ALL")
    eventually(lambda: not port.is_well(), 40)
    answer = port.get("/healthz")
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert answer.json()["reason"]
