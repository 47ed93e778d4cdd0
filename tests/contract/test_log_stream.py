"""A followed log over HTTP: server-sent events under uvicorn, from a real agent [L12, C4]."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import psutil
import pytest
from django.db import connection

from lifecycle.agent.logfiles import rotated
from lifecycle.backends.base import LogStart
from lifecycle.logs import reading
from lifecycle.logs.redaction import Redactor
from tests.host import Host, eventually, running_host, spec
from tests.sse import Events

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
STREAM = "/api/v1/workers/worker-1/logs/stream"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with running_host() as made:
        monkeypatch.setattr("lifecycle.logs.reading.backend_for", lambda _config: made.backend)
        yield made


@pytest.fixture
def client(
    web: str, make_config: Callable[..., Any], api: Callable[..., Any]
) -> Iterator[httpx.Client]:
    """A viewer, as migrated roles are gone with each transactional test: a superuser stands in."""
    from django.contrib.auth.models import User
    from knox.models import AuthToken

    make_config(worker_id="worker-1")
    user = User.objects.create_superuser("root")
    token = AuthToken.objects.create(user)[1]
    headers = {"Authorization": f"Token {token}", "Accept": "text/event-stream"}
    with httpx.Client(base_url=web, headers=headers, timeout=20, trust_env=False) as made:
        yield made


class Stream(Events):
    """Lines off one response."""

    def lines(self, count: int) -> list[str]:
        """So many lines, or what there is when the stream ends before."""
        found: list[str] = []
        for kind, data in self.events():
            if kind == "message":
                found.append(data["line"])
            if len(found) == count:
                break
        return found

    def until(self, wanted: str) -> list[str]:
        """The lines before the first event of that kind."""
        found: list[str] = []
        for kind, data in self.events():
            if kind == wanted:
                return found
            found.append(data["line"])
        raise AssertionError("the stream ended")


@contextmanager
def stream(client: httpx.Client, query: str = "", **headers: str) -> Iterator[Stream]:
    with client.stream("GET", f"{STREAM}?{query}", headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream"
        assert "content-length" not in response.headers
        yield Stream(response)


def numbers(lines: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in lines]


def test_backlog_then_live_without_hole_or_repeat(client: httpx.Client, host: Host) -> None:
    """Over rotation, a killed keeper and a connection that breaks; resumed by Last-Event-ID."""
    host.backend.start(spec("flood", log_max_bytes=20_000, log_files=50))
    eventually(lambda: len(host.lines()) > 300, "a backlog")
    with stream(client, "stream=stdout&tail=100") as first:
        seen = first.lines(1500)
    keeper = host.keeper_pid("worker-1")
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: host.keeper_pid("worker-1") != keeper, "another keeper")
    with stream(client, "stream=stdout&tail=100", **{"Last-Event-ID": first.last}) as second:
        seen += second.lines(1500)
    with stream(client, f"after={second.last}") as third:
        seen += third.lines(500)
    assert rotated(host.home / "logs" / "workers" / "worker-1" / "stdout.log")
    found = numbers(seen)
    assert found == list(range(found[0], found[0] + 3500))


def test_it_says_when_all_has_been_sent_and_keeps_the_connection_awake(
    client: httpx.Client, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "HEARTBEAT_S", 0)
    host.start("lines=3", "stderr=token=hunter2")
    eventually(lambda: len(host.lines()) == 3, "output")
    with stream(client) as followed:
        assert followed.until("live") == ["line 0", "line 1", "line 2"]
        while ": still here" not in followed.text:
            followed.text += next(followed.chunks)
    with stream(client, "stream=stderr") as followed:
        assert followed.until("live") == ["token=********"]
    with stream(client, "tail=0") as followed:
        assert followed.until("live") == []


def test_followers_hold_neither_threads_nor_database_connections(
    client: httpx.Client, host: Host
) -> None:
    """More of them than the pool has connections; all end when their readers go."""
    host.start("lines=3")
    eventually(lambda: len(host.lines()) == 3, "output")
    assert host.agent is not None
    agent = psutil.Process(host.agent.pid)
    client.get("/api/v1/workers")
    before, open_before = threading.active_count(), agent.num_fds()
    held: list[Stream] = []
    with ExitStack() as stack:
        for _ in range(20):
            held.append(stack.enter_context(stream(client)))
            assert held[-1].until("live") == ["line 0", "line 1", "line 2"]
        eventually(lambda: threading.active_count() <= before + 1, "the requests' threads are gone")
        assert agent.num_fds() >= open_before + 20
        assert client.get("/api/v1/workers", headers={"Accept": "*/*"}).status_code == 200
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            )
            assert cursor.fetchone()[0] <= 10
    eventually(lambda: agent.num_fds() <= open_before + 1, "the agent has let go of them")


def test_a_log_that_is_asked_for_and_never_read_is_let_go_of(host: Host) -> None:
    """The reader went before the first event: nobody is left who could close anything."""
    host.start("lines=3")
    eventually(lambda: len(host.lines()) == 3, "output")
    assert host.agent is not None
    agent = psutil.Process(host.agent.pid)
    before = agent.num_fds()
    start = LogStart(tail=1)
    events = [
        reading.server_sent(host.backend.follow_log("worker-1", "stdout", start), Redactor([]))
        for _ in range(20)
    ]
    eventually(lambda: agent.num_fds() >= before + 20, "the agent serves them")
    with pytest.warns(ResourceWarning):
        events.clear()
    eventually(lambda: agent.num_fds() <= before + 5, "the agent has let go of them")


def test_errors_before_the_stream_have_the_one_shape(client: httpx.Client, host: Host) -> None:
    for query, status, code in (("after=x", 400, "no_place"), ("stream=x", 400, "invalid_choice")):
        answer = client.get(f"{STREAM}?{query}")
        assert answer.status_code == status
        assert answer.json()["errors"][0]["code"] == code
    host.kill_agent()
    away = client.get(STREAM)
    assert away.status_code == 503
    assert away.json()["errors"][0]["code"] == "backend_unavailable"
    host.start_agent()
    with stream(client) as followed:
        assert followed.until("live") == []


def test_the_stream_ends_with_the_agent_and_is_resumed(client: httpx.Client, host: Host) -> None:
    host.start("flood")
    with stream(client, "tail=1") as followed:
        seen = followed.lines(50)
        host.kill_agent()
        seen += followed.lines(1_000_000)  # the stream ends
    host.start_agent()
    with stream(client, **{"Last-Event-ID": followed.last}) as again:
        seen += again.lines(50)
    found = numbers(seen)
    assert found == list(range(found[0], found[0] + len(found)))


def test_a_stream_ends_and_goes_on_without_hole_or_repeat(
    client: httpx.Client, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rights are looked at where one begins: who lost them reads no further."""
    from django.contrib.auth.models import User

    monkeypatch.setattr(reading, "LASTS_S", 0.2)
    host.start("flood")
    eventually(lambda: len(host.lines()) > 10, "output")
    with stream(client, "tail=5") as first:
        seen = first.lines(1_000_000)  # it ends
    for _ in range(2):
        with stream(client, "tail=5", **{"Last-Event-ID": first.last}) as first:
            seen += first.lines(1_000_000)
    found = numbers(seen)
    assert found == list(range(found[0], found[0] + len(found)))
    User.objects.update(is_active=False)
    assert client.get(STREAM, headers={"Last-Event-ID": first.last}).status_code == 401


def test_a_stream_that_ends_before_its_first_line_loses_none(
    client: httpx.Client, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LASTS_S", 0.0)
    alive = host.start("lines=3")
    eventually(lambda: len(host.lines()) == 3, "output")
    with stream(client, "tail=0") as followed:
        assert list(followed.events()) == [("live", {})]
    os.kill(alive.process.pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(alive.process.pid), "the worker's end")
    host.start("lines=2", generation=2)
    eventually(lambda: len(host.lines()) == 5, "more output")
    with stream(client, "tail=0", **{"Last-Event-ID": followed.last}) as again:
        assert again.lines(2) == ["line 0", "line 1"]
