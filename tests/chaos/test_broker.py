"""[L5] A broker that is killed, or that hangs, while messages are prefetched: the worker waits,
says so, keeps its pid, and consumes again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery

from crm.env import Env
from tests.chaos.fleet import config
from tests.e2e.system import PASSWORD, System
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TASKS = 6
TASK_S = 2.0
POOLS = ("threads", "prefork", "solo")
WAITING = "waiting for broker"
# A freeze must be longer than every time limit of ours that it can run into.
FREEZE_REASON_S = 60.0


class Bench:
    """Workers of each pool with a short queue of slow tasks each."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system, self.folder = system, folder
        token = system.manage("token", "admin").stdout.strip()
        self.api = httpx.Client(
            base_url=f"{system.url}/api/v1", headers={"Authorization": f"Token {token}"}, timeout=30
        )
        ours = Env.model_construct(home=system.home, broker_url=None)
        self.celery = Celery(broker=ours.resolved_broker_url, set_as_current=False)

    def add(self, pool: str) -> None:
        body = {**config("threads-1", ""), "worker_id": pool, "pool": pool, "concurrency": 1}
        body |= {"env_variables": {}, "queues": []}
        self.api.post("/worker-configs", json=body).raise_for_status()
        self.system.running_worker(pool)

    def send(self, pool: str, count: int, seconds: float, suffix: str = "") -> None:
        for _ in range(count):
            self.celery.send_task(
                "tests.chaos.numbered.nap",
                [seconds, str(self.folder / f"{pool}{suffix}")],
                queue=f"worker.{pool}",
            )

    def done(self, pool: str) -> int:
        path = self.folder / pool
        return path.stat().st_size if path.exists() else 0

    def status(self, pool: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/workers/{pool}/status").raise_for_status().json()
        return found

    def waits(self, pool: str) -> bool:
        return bool(self.status(pool)["reason"] == WAITING)

    def consumes(self, pool: str) -> bool:
        """What was sent after the outage is done, and nothing is waited for."""
        return self.done(f"{pool}-after") > 0 and self.status(pool)["reason"] == ""


@pytest.fixture(scope="module")
def bench(module_system: System) -> Iterator[Bench]:
    module_system.up()
    folder = module_system.home.parent / "done"
    folder.mkdir()
    made = Bench(module_system, folder)
    for pool in POOLS:
        made.add(pool)
    yield made
    made.api.close()


@contextmanager
def broker_killed(system: System) -> Iterator[None]:
    """SIGKILL; and nobody starts it again until the block ends: `up` is frozen meanwhile."""
    assert system.process
    broker = system.part("valkey")["pid"]
    os.kill(system.process.pid, signal.SIGSTOP)
    try:
        os.kill(broker, signal.SIGKILL)
        yield
    finally:
        os.kill(system.process.pid, signal.SIGCONT)


@contextmanager
def broker_frozen(system: System) -> Iterator[None]:
    """SIGSTOP: connections stay, new ones are taken by the kernel, and nothing answers."""
    broker = system.part("valkey")["pid"]
    os.kill(broker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker, signal.SIGCONT)


@pytest.mark.parametrize("away", [broker_killed, broker_frozen])
def test_workers_outlive_the_broker_with_messages_prefetched(
    bench: Bench, away: Callable[[System], Any]
) -> None:
    before = {pool: bench.status(pool) for pool in POOLS}
    done = {pool: bench.done(pool) for pool in POOLS}
    for pool in POOLS:
        bench.send(pool, TASKS, TASK_S)
    for pool in POOLS:  # the first has ended, the next ones are under way and prefetched
        eventually(partial(more, bench, pool, done[pool]))
    with away(bench.system):
        for pool in POOLS:
            eventually(partial(bench.waits, pool), FREEZE_REASON_S)
        assert WAITING in page(bench.system, "threads")
    for pool in POOLS:
        # Not counted: what was prefetched. A message that the worker had and could not acknowledge
        # stays with the broker until its visibility timeout, and one may run twice.
        (bench.folder / f"{pool}-after").unlink(missing_ok=True)
        bench.send(pool, 1, 0, suffix="-after")
        eventually(partial(bench.consumes, pool), 90)
    for pool in POOLS:
        now = bench.status(pool)
        assert (now["status"], now["process_id"], now["restart_count"]) == (
            "running",
            before[pool]["process_id"],
            before[pool]["restart_count"],
        )


def more(bench: Bench, pool: str, done: int) -> bool:
    return bench.done(pool) > done


def page(system: System, worker_id: str) -> str:
    """The worker's page as the admin sees it."""
    query = """
        SELECT id FROM lifecycle_workerconfig WHERE worker_id = %s
    """
    with system.database() as connection:
        row = connection.execute(query, [worker_id]).fetchone()
    assert row
    with httpx.Client(base_url=system.url, follow_redirects=True, timeout=30) as browser:
        browser.get("/admin/login/")
        form = {
            "username": "admin",
            "password": PASSWORD,
            "csrfmiddlewaretoken": browser.cookies["muster_csrf"],
        }
        browser.post("/admin/login/", data=form, headers={"Referer": f"{system.url}/admin/login/"})
        return browser.get(f"/admin/lifecycle/workerruntime/{row[0]}/change/").text
