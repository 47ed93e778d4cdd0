"""`manage.py up` as a whole: it comes up, stays up, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import urllib.request
from typing import Any

import pytest

from tests.e2e.system import System
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

PARTS = ["agent", "postgres", "valkey", "master", "web", "beat", "flower"]
STOP_S = 20.0  # [L13]


def get(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - our own address
        status: int = response.status
        return status


def test_every_part_and_the_first_worker_run(system: System) -> None:
    assert "log in as admin" in system.said()
    assert get(f"{system.url}/healthz") == 200
    assert get(f"{system.url}/admin/login/") == 200
    worker_pid = system.running_worker()
    eventually(lambda: system.part("flower").get("pid"))
    seen = system.ps()
    assert seen["running"]
    assert seen["database"]
    assert sorted(row["name"] for row in seen["parts"]) == sorted(["up", *PARTS])
    for row in seen["parts"]:
        assert row["state"] == "running", row
        assert row["pid"] in system.processes()
        assert row["memory_mb"] > 0
        assert row["uptime_s"] >= 0
    (worker,) = seen["workers"]
    assert (worker["name"], worker["pid"], worker["state"]) == ("worker-1", worker_pid, "running")
    assert worker["memory_mb"] > 0


def test_ps_is_readable(system: System) -> None:
    done = system.manage("ps")
    assert done.returncode == 0
    assert re.search(r"^web +\d+ +running +\S+", done.stdout, re.MULTILINE)


def test_a_second_one_is_refused_with_pid_and_address(system: System) -> None:
    assert system.process
    done = system.manage("up")
    assert done.returncode == 1
    assert f"pid {system.process.pid}, {system.url}/admin/" in done.stderr
    assert system.process.poll() is None


def test_a_token_opens_the_api(system: System) -> None:
    token = system.manage("token", "admin").stdout.strip()
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{system.url}/api/v1/worker-configs", headers={"Authorization": f"Token {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        assert response.status == 200
    done = system.manage("token", "nobody")
    assert done.returncode == 1
    assert "there is no active user 'nobody'" in done.stderr


@pytest.mark.parametrize("name", PARTS)
def test_a_killed_part_comes_back(system: System, name: str) -> None:
    eventually(lambda: system.part(name).get("pid"))
    before = system.part(name)
    os.kill(before["pid"], signal.SIGKILL)

    def again() -> dict[str, Any]:
        part = system.part(name)
        return part if part["state"] == "running" and part["pid"] != before["pid"] else {}

    after = eventually(again)
    assert after["restarts"] == before["restarts"] + 1
    assert f"{name} ended after" in system.said()
    system.running_worker()
    eventually(lambda: _answers(system))


def _answers(system: System) -> bool:
    try:
        return get(f"{system.url}/healthz") == 200
    except OSError:
        return False


def test_a_busy_port_is_refused_before_anything_starts(fresh_system: System) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", fresh_system.port))
        taken.listen()
        done = fresh_system.manage("up")
    assert done.returncode == 1
    assert f"port {fresh_system.port} on 127.0.0.1 is in use" in done.stderr
    assert not (fresh_system.home / "postgres").exists()
    assert fresh_system.processes() == {}


def test_nothing_runs_in_a_fresh_home(fresh_system: System) -> None:
    done = fresh_system.manage("ps", "--json")
    assert done.returncode == 3
    assert '"running": false' in done.stdout


def test_sigterm_leaves_nothing_and_the_next_one_goes_on(fresh_system: System) -> None:
    fresh_system.up()
    fresh_system.running_worker()
    assert fresh_system.stop() < STOP_S
    assert fresh_system.process
    assert fresh_system.process.returncode == 0
    assert fresh_system.processes() == {}
    fresh_system.up()
    assert "made worker-1" not in fresh_system.said()
    fresh_system.running_worker()
    fresh_system.stop()


def test_sigterm_while_it_comes_up_leaves_nothing(fresh_system: System) -> None:
    fresh_system.start()
    eventually(lambda: "postgres answers" in fresh_system.said())
    assert fresh_system.stop() < STOP_S
    assert fresh_system.processes() == {}


def test_up_after_kill_9_of_everything(fresh_system: System) -> None:
    fresh_system.up()
    fresh_system.running_worker()
    fresh_system.kill_everything()
    fresh_system.up()
    fresh_system.running_worker()
    assert fresh_system.stop() < STOP_S
    assert fresh_system.processes() == {}


def test_up_after_kill_9_of_itself_takes_the_workers_over(fresh_system: System) -> None:
    fresh_system.up()
    worker = fresh_system.running_worker()
    old = {name: fresh_system.part(name)["pid"] for name in ("postgres", "web", "agent", "master")}
    assert fresh_system.process
    fresh_system.process.kill()
    fresh_system.process.wait()
    assert "nobody keeps these alive" in fresh_system.manage("ps").stdout
    fresh_system.up()
    assert "ended what a killed run had left" in fresh_system.said()
    assert not set(old.values()) & set(fresh_system.processes())
    assert fresh_system.running_worker() == worker
    assert fresh_system.stop() < STOP_S
    assert fresh_system.processes() == {}
