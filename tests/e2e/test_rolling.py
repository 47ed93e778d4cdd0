"""Rolling restarts on a real system: a queue is never without a consumer [L8]."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count, pairwise
from typing import Any

import httpx
import pytest
from celery import Celery

from crm.env import Env
from tests.e2e.notes import Note, notes
from tests.e2e.system import System
from tests.threads import alongside
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WORKERS = ("roll-1", "roll-2", "roll-3")
QUEUE = "rolling"
SEND_EVERY_S = 0.03
LONGEST_WAIT_S = 3.0  # far below the time that a worker takes to stop and start
ROLLOUT_S = 120.0
ARGUMENTS = ["--include", "tests.e2e.notes"]


@pytest.fixture(scope="module")
def client(module_system: System) -> Iterator[httpx.Client]:
    """The API as the first admin, with three workers that run."""
    module_system.up()
    token = module_system.manage("token", "admin").stdout.strip()
    headers = {"Authorization": f"Token {token}"}
    with httpx.Client(base_url=f"{module_system.url}/api/v1", headers=headers, timeout=30) as made:
        for worker_id in WORKERS:
            config = {
                "worker_id": worker_id,
                "auto_start": True,
                "queues": [QUEUE],
                "concurrency": 2,
                "command_args": ARGUMENTS,
            }
            made.post("/worker-configs", json=config).raise_for_status()
        for worker_id in WORKERS:
            module_system.running_worker(worker_id)
        yield made


class Traffic:
    """Short tasks sent without pause to the queue that all three workers consume."""

    def __init__(self, system: System) -> None:
        broker = Env.model_construct(home=system.home, broker_url=None).resolved_broker_url
        self.app = Celery("tests", broker=broker, set_as_current=False)
        self.home = system.home
        self.sent: list[int] = []
        self.first = len(notes(system.home))
        self._over = threading.Event()

    def run(self) -> None:
        self.app.send_task("tests.note", args=[-1, 0.0], queue="nobody's")  # connects: up to 2 s
        for number in count(self.first):
            if self._over.wait(SEND_EVERY_S):
                return
            self.app.send_task("tests.note", args=[number, time.time()], queue=QUEUE)
            self.sent.append(number)

    def end(self) -> None:
        self._over.set()

    def done(self) -> list[Note]:
        return notes(self.home)[self.first :]


@contextmanager
def traffic(system: System) -> Iterator[Traffic]:
    """Each task that was sent meanwhile is executed once, and soon."""
    made = Traffic(system)
    with alongside(made.run, end=made.end):
        eventually(lambda: len(made.done()) > 10)
        yield made
    eventually(lambda: len(made.done()) >= len(made.sent))
    found = made.done()
    assert Counter(note.number for note in found) == Counter(made.sent)
    slowest = max(note.waited_s for note in found)
    print(f"{len(found)} tasks, the slowest began after {slowest:.3f} s")  # shown by -rP
    assert slowest < LONGEST_WAIT_S


def pids(client: httpx.Client) -> dict[str, int]:
    return {worker_id: status(client, worker_id)["process_id"] for worker_id in WORKERS}


def status(client: httpx.Client, worker_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/workers/{worker_id}/status").raise_for_status().json()
    return found


def begin(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/workers/rollouts", json=body)
    assert response.status_code == 201, response.text
    begun: dict[str, Any] = response.json()
    return begun


def ended(client: httpx.Client, rollout: dict[str, Any]) -> dict[str, Any]:
    """The rollout, once it is over."""

    def over() -> dict[str, Any]:
        now: dict[str, Any] = client.get(f"/workers/rollouts/{rollout['id']}").json()
        return now if now["state"] != "running" else {}

    return eventually(over, ROLLOUT_S)


def log_since(client: httpx.Client, worker_id: str, since: str) -> list[dict[str, Any]]:
    """What happened to a worker, oldest first."""
    query = {"since": since, "limit": "1000"}
    found = client.get(f"/workers/{worker_id}/logs", params=query).raise_for_status().json()
    return list(reversed(found["logs"]))


def replacements(client: httpx.Client, since: str) -> list[tuple[datetime, datetime, datetime]]:
    """Of each worker that was replaced: when the new process began, was ready, the old one ended.

    Also checks that nothing but `running` was ever its state.
    """
    spans = []
    for worker_id in WORKERS:
        rows = log_since(client, worker_id, since)
        assert {row["to_state"] for row in rows} == {"running"}, rows
        at = {row["event"]: datetime.fromisoformat(row["time"]) for row in rows}
        spans.append((at["succeeding"], at["replaced"], at["retired"]))
    return sorted(spans)


def gap_s(rows: list[dict[str, Any]]) -> float:
    """Seconds of a worker's restart in which none of its processes consumed."""
    at = {row["event"]: datetime.fromisoformat(row["time"]) for row in rows}
    return max(timedelta(), at["replaced"] - at["draining"]).total_seconds()


def test_a_queue_is_never_without_a_consumer(system: System, client: httpx.Client) -> None:
    before = pids(client)
    with traffic(system) as sent:
        begun = begin(client, worker_ids=list(WORKERS), max_surge=1)
        over = ended(client, begun)
        new = pids(client)
        eventually(lambda: {note.pid for note in sent.done()} >= set(new.values()))
    assert over["state"] == "done", over
    assert over["progress"]["done"] == 3
    assert set(before.values()).isdisjoint(new.values())
    assert set(before.values()).isdisjoint(system.processes())
    spans = replacements(client, begun["created_at"])
    for (_began, _ready, one_ended), (next_began, _next_ready, _next_ended) in pairwise(spans):
        assert one_ended <= next_began  # one at a time


def test_a_changed_config_marks_workers_and_a_rolling_restart_brings_it(
    system: System, client: httpx.Client
) -> None:
    for worker_id in WORKERS:
        changed = {"command_args": [*ARGUMENTS, "--max-tasks-per-child=1000"]}
        client.patch(f"/worker-configs/{worker_id}", json=changed).raise_for_status()
    listed = client.get("/workers", params={"outdated": "true"}).json()["results"]
    assert [row["worker_id"] for row in listed] == list(WORKERS)
    with traffic(system):
        over = ended(client, begin(client, outdated=True, max_surge=2))
    assert over["state"] == "done", over
    assert [step["worker_id"] for step in over["steps"]] == list(WORKERS)
    assert not any(status(client, worker_id)["outdated"] for worker_id in WORKERS)
    refused = client.post("/workers/rollouts", json={"outdated": True})
    assert refused.status_code == 409


def test_a_config_that_can_not_start_ends_it_and_what_runs_goes_on(
    system: System, client: httpx.Client
) -> None:
    before = pids(client)
    good = client.get(f"/worker-configs/{WORKERS[0]}").json()["command_args"]
    for worker_id in WORKERS:
        broken = {"command_args": [*ARGUMENTS, "--no-such-option"]}
        client.patch(f"/worker-configs/{worker_id}", json=broken).raise_for_status()
    with traffic(system):
        over = ended(client, begin(client, outdated=True))
    assert over["state"] == "failed"
    assert "roll-1" in over["reason"]
    assert "exit code 2" in over["reason"]
    assert [step["state"] for step in over["steps"]] == ["failed", "skipped", "skipped"]
    assert pids(client) == before
    said = client.get(f"/workers/{WORKERS[0]}/logs", params={"stream": "stderr"}).json()["lines"]
    assert any("--no-such-option" in line for line in said)
    assert all(status(client, worker_id)["status"] == "running" for worker_id in WORKERS)
    for worker_id in WORKERS:
        client.patch(f"/worker-configs/{worker_id}", json={"command_args": good})
    mended = ended(client, begin(client, worker_ids=list(WORKERS)))
    assert mended["state"] == "done", mended
    assert set(before.values()).isdisjoint(pids(client).values())


def test_one_restart_leaves_no_moment_without_a_consumer(
    system: System, client: httpx.Client
) -> None:
    worker_id = WORKERS[0]
    before = status(client, worker_id)
    begun = time.monotonic()
    client.post(f"/workers/{worker_id}/restart", json={"replace": True}).raise_for_status()

    def replaced() -> bool:
        now = status(client, worker_id)
        assert now["status"] == "running"
        taken_over = now["process_id"] != before["process_id"]
        return taken_over and now["retiring_process_id"] is None

    eventually(replaced)
    total_s = time.monotonic() - begun
    rows = log_since(client, worker_id, before["ready_at"])
    gap = gap_s(rows[-10:])
    print(f"graceful restart: {total_s:.2f} s in all, {gap:.3f} s without a ready consumer")
    assert gap == 0
