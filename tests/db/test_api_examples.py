"""The bodies of `examples.http` work as they stand [C2]."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from lifecycle import services
from lifecycle.backends.base import LogStart
from lifecycle.models import WorkerRuntime
from tests.db.api_helpers import PrintedLog, spawn

TEXT = (Path(__file__).parent / "examples.http").read_text()


@dataclass(frozen=True)
class Example:
    title: str
    method: str
    path: str
    content_type: str | None
    body: str
    answer: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def examples() -> list[Example]:
    """Every request of the file, with the answer that the comments below it document."""
    found = []
    for block in TEXT.split("\n### ")[1:]:
        title, _, rest = block.partition("\n")
        for part in re.split(r"^(?=(?:GET|POST|PATCH|DELETE) )", rest, flags=re.M)[1:]:
            request, _, after = part.partition("\n")
            method, path = request.split(" ")
            lines = after.splitlines()
            said = " ".join(line[1:] for line in lines if line.startswith("#"))
            header = next((line for line in lines if line.startswith("Content-Type:")), None)
            body = "\n".join(
                line for line in lines if not line.startswith(("#", "Content-Type:"))
            ).strip()
            answer = said.replace(", ...", "").replace("[...]", "[]").strip()
            found.append(
                Example(
                    title,
                    method,
                    path,
                    header and header.split(":")[1].strip(),
                    body,
                    json.loads(answer) if answer else {},
                )
            )
    return found


def send(client: APIClient, example: Example) -> Any:
    kind = example.content_type or "application/octet-stream"
    return client.generic(example.method, example.path, example.body, content_type=kind)


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master that takes up a start while the request waits for the process."""
    wait = services.wait_for_process

    def take_up(worker_id: str, timeout_s: float = 5.0) -> WorkerRuntime:
        if _runtime(worker_id).state == "stopped":
            spawn(worker_id, pid=12345)
        return wait(worker_id, timeout_s)

    monkeypatch.setattr(services, "wait_for_process", take_up)


def _runtime(worker_id: str) -> WorkerRuntime:
    return WorkerRuntime.objects.get(config__worker_id=worker_id)


def test_every_request_of_the_file_is_found() -> None:
    assert [example.method for example in examples()].count("POST") == 5
    assert len(examples()) == 12


@pytest.mark.usefixtures("master")
def test_the_file_from_top_to_bottom(
    api_client: APIClient, monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., Any]
) -> None:
    """One after the other, as a script would."""
    printed = PrintedLog("one", "two")
    monkeypatch.setattr("lifecycle.logs.reading.backend_for", lambda _config: printed)
    make_config(worker_id="worker-2")
    answers = {}
    for example in examples():
        response = send(api_client, example)
        answers[example.name] = response
        assert response.status_code in (200, 201, 202), (example.name, response.content)
        missing = example.answer.keys() - response.json().keys()
        assert not missing, (example.name, missing)
    assert printed.asked == [("worker-1", "stdout", LogStart(tail=100))]
    logs = "GET /api/v1/workers/worker-1/logs"
    assert answers[f"{logs}?tail=100&stream=stdout"].json()["lines"] == ["one", "two"]
    lifecycle = answers[f"{logs}?level=error&limit=100&since=2026-01-01T00:00:00Z"].json()
    assert lifecycle == {"worker_id": "worker-1", "logs": []}
    created = answers["POST /api/v1/worker-configs"]
    assert created.status_code == 201
    assert created.json()["name"] == "主 Worker"
    started = answers["POST /api/v1/workers/worker-1/start"]
    assert started.status_code == 202
    assert started.json()["process_id"] == 12345
    assert started.json()["status"] == "starting"
    assert answers["POST /api/v1/workers/worker-1/stop"].status_code == 202
    assert [one["success"] for one in answers["POST /api/v1/workers/batch"].json()["results"]] == [
        True,
        True,
    ]


@pytest.mark.usefixtures("master")
def test_a_second_start_is_200(api_client: APIClient, make_config: Callable[..., Any]) -> None:
    make_config(worker_id="worker-1")
    first = api_client.post("/api/v1/workers/worker-1/start")
    second = api_client.post("/api/v1/workers/worker-1/start")
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json() == second.json()
