"""[L9] Healthy means that it works: real workers that answer every ping and are ill all the same.

All of them fall ill at the beginning, so that the tests wait at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery

from crm.env import Env
from tests.e2e.driving import add_worker, api_of
from tests.e2e.system import System
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PATIENT_S = (
    120.0  # heartbeats of 10 s, two looks, 15 s of patience; samples of 10 s, 30 s of memory
)
WORKERS: dict[str, dict[str, Any]] = {
    "cancelled": {},
    "stubborn": {"env_variables": {"ILL": "stubborn"}},
    "deaf": {"env_variables": {"ILL": "deaf"}},
    "greedy": {"pool": "prefork", "max_memory_mb": 250},
    "busy": {"concurrency": 1},
}


class Ward:
    """The workers, each with a queue `<worker>.q` besides its own."""

    def __init__(self, system: System, folder: Path, client: httpx.Client) -> None:
        self.system, self.folder, self.client = system, folder, client
        ours = Env.model_construct(home=system.home, broker_url=None)
        self.celery = Celery(broker=ours.resolved_broker_url, set_as_current=False)
        self.pids: dict[str, int] = {}
        self.check_said = ""  # by the health of `stubborn`, before it was replaced

    def admit(self, worker_id: str, **fields: Any) -> None:
        once = self.folder / f"{worker_id}.once"
        once.touch()
        env = {**fields.pop("env_variables", {}), "ILL_ONCE": str(once)}
        defaults = {"concurrency": 2, "heartbeat_timeout_s": 15, "auto_start": True}
        include = ["--include=tests.e2e.ill"]
        fields = {**defaults, "queues": [f"{worker_id}.q"], "command_args": include, **fields}
        add_worker(self.client, worker_id, env_variables=env, **fields)

    def send(self, worker_id: str, task: str, *arguments: object) -> None:
        self.celery.send_task(f"tests.e2e.ill.{task}", arguments, queue=f"{worker_id}.q")

    def note(self, worker_id: str, name: str, seconds: float = 0.0) -> None:
        self.send(worker_id, "note", str(self.folder / name), seconds)

    def noted(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0

    def get(self, worker_id: str, what: str, **query: str) -> dict[str, Any]:
        answer = self.client.get(f"/workers/{worker_id}/{what}", params=query)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def check(self, worker_id: str, name: str) -> str:
        return str(self.get(worker_id, "health")["checks"][name])

    def row(self, worker_id: str, event: str) -> dict[str, Any]:
        """The first row of that event; {} when there is none yet."""
        rows: list[dict[str, Any]] = self.get(worker_id, "logs", limit="200")["logs"]
        return next((row for row in reversed(rows) if row["event"] == event), {})

    def log(self, worker_id: str, event: str) -> str:
        return str(self.row(worker_id, event).get("message", ""))

    def is_replaced(self, worker_id: str) -> bool:
        now = self.get(worker_id, "status")
        return bool(now["status"] == "running" and now["process_id"] != self.pids[worker_id])


@pytest.fixture(scope="module")
def ward(module_system: System) -> Iterator[Ward]:
    module_system.up()
    folder = module_system.home.parent / "ward"
    folder.mkdir()
    with api_of(module_system) as client:
        made = Ward(module_system, folder, client)
        for worker_id, fields in WORKERS.items():
            made.admit(worker_id, **fields)
        for worker_id in WORKERS:
            made.pids[worker_id] = module_system.running_worker(worker_id)
        fall_ill(made)
        made.check_said = seen(partial(made.check, "stubborn", "consuming"))
        yield made


def fall_ill(ward: Ward) -> None:
    for worker_id in ("cancelled", "stubborn"):  # as Flower's button does
        ward.celery.control.cancel_consumer(
            f"{worker_id}.q", destination=[f"{worker_id}@{os.uname().nodename}"]
        )
    for _ in range(4):
        ward.note("deaf", "deaf")
    for _ in range(2):  # of each pool child one, or of one both
        ward.send("greedy", "hoard", 200)
    eventually(partial(is_done, ward, "greedy", 2))
    ward.note("greedy", "greedy-long", 50.0)  # longer than it takes to be found out
    for _ in range(5):
        ward.note("busy", "busy", 15.0)


def is_done(ward: Ward, worker_id: str, tasks: int) -> bool:
    """By what it has begun, as of its last heartbeat."""
    return bool(ward.get(worker_id, "status")["tasks_total"] >= tasks)


def seen(look: Callable[[], str]) -> str:
    """The first complaint of a check."""
    return eventually(lambda: (said := look()) != "ok" and said, PATIENT_S) or ""


def test_a_cancelled_consumer_is_added_back(ward: Ward) -> None:
    ward.note("cancelled", "cancelled")
    said = eventually(partial(ward.log, "cancelled", "not_consuming"), PATIENT_S)
    assert said == "does not consume cancelled.q"
    eventually(partial(ward.log, "cancelled", "consuming"), PATIENT_S)
    eventually(partial(ward.noted, "cancelled"))
    now = ward.get("cancelled", "status")
    assert now["process_id"] == ward.pids["cancelled"]
    assert now["consumed_queues"] == ["cancelled.q", "worker.cancelled"]
    eventually(lambda: ward.get("cancelled", "health")["healthy"])


def test_one_that_cannot_be_added_back_is_drained_and_replaced(ward: Ward) -> None:
    ward.note("stubborn", "stubborn")
    eventually(partial(ward.is_replaced, "stubborn"), PATIENT_S)
    assert ward.check_said == "does not consume stubborn.q"
    assert ward.log("stubborn", "condemned").startswith("to be replaced: does not consume")
    assert "exit code 0" in ward.get("stubborn", "status")["last_error"]  # it was asked to end
    eventually(partial(ward.noted, "stubborn"))


def test_one_that_fetches_nothing_though_it_has_free_slots_is_replaced(ward: Ward) -> None:
    eventually(partial(ward.is_replaced, "deaf"), PATIENT_S)
    assert "fetches nothing from deaf.q" in ward.log("deaf", "condemned")
    eventually(lambda: ward.noted("deaf") == 4)


def test_a_leak_is_drained_first(ward: Ward) -> None:
    """Its long task ends, and counts; what waited in the queue is done by its successor."""
    eventually(partial(ward.log, "greedy", "condemned"), PATIENT_S)
    assert "over its limit of 250 MB" in ward.log("greedy", "condemned")
    ward.note("greedy", "greedy-after")
    eventually(partial(ward.is_replaced, "greedy"), PATIENT_S)
    assert ward.noted("greedy-long") == 1
    ended = datetime.fromtimestamp((ward.folder / "greedy-long").stat().st_mtime, UTC)
    condemned, gone = (moment(ward.row("greedy", event)) for event in ("condemned", "exited"))
    assert condemned < ended < gone
    eventually(partial(ward.noted, "greedy-after"))
    assert "over its limit" in ward.get("greedy", "status")["last_error"]
    eventually(lambda: 0 < ward.get("greedy", "status")["memory_usage_mb"] < 250)


def moment(row: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(row["time"])


def test_one_whose_slots_are_all_taken_for_long_is_well(ward: Ward) -> None:
    eventually(lambda: ward.noted("busy") == 5, PATIENT_S)
    assert ward.log("busy", "condemned") == ward.log("busy", "not_consuming") == ""
    assert ward.get("busy", "status")["process_id"] == ward.pids["busy"]
