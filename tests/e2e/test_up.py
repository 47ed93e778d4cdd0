"""`manage.py up` as a whole: it comes up, stays up, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from crm import embedded
from crm.env import Env
from crm.up.parts import python_part
from crm.up.prepared import Prepared
from crm.up.run import Up
from tests.e2e.prepared import prepare
from tests.e2e.servers import Servers
from tests.e2e.system import CHECKOUT, System, free_port
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
    assert "database is migrated" in fresh_system.said()
    fresh_system.up()
    assert "made worker-1" not in fresh_system.said()
    assert "database is migrated" not in fresh_system.said()  # there was nothing to do
    hint = re.search(r"forgot the password\? (.+ changepassword admin)\)", fresh_system.said())
    assert hint
    shell = subprocess.run(["/bin/sh", "-c", f"{hint[1]} --help"], cwd=CHECKOUT, env={})
    assert shell.returncode == 0
    fresh_system.running_worker()
    fresh_system.stop()


def test_sigterm_while_it_comes_up_leaves_nothing(fresh_system: System) -> None:
    fresh_system.start()
    eventually(lambda: "postgres answers" in fresh_system.said())
    assert fresh_system.stop() < STOP_S
    assert fresh_system.processes() == {}


def test_an_end_before_a_server_answers_waits_for_no_thread(home: Path) -> None:
    up = Up(Env.model_construct(home=home))
    up.supervisor = Mock(started=AsyncMock())
    entered = threading.Event()

    def wait(*arguments: Any, **options: Any) -> None:
        entered.set()
        embedded.wait_valkey(*arguments, **options)

    async def begin_and_end() -> None:
        server = asyncio.create_task(up._server(python_part("valkey"), wait))
        await asyncio.to_thread(entered.wait)
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)

    begun = time.monotonic()
    asyncio.run(begin_and_end())  # returns when its threads have ended
    assert time.monotonic() - begun < embedded.ATTEMPT_S + 5


def test_workers_that_run_in_another_home_are_said(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = Prepared(None, False, False, False, elsewhere="beta:/srv/muster")
    Up(Env.model_construct(home=home))._say_prepared(prepared)
    assert (
        "WARNING: the workers of this database run in beta:/srv/muster" in capsys.readouterr().out
    )


@pytest.mark.parametrize("command", ["up", "ps"])
def test_bad_settings_are_said_in_a_line_each(fresh_system: System, command: str) -> None:
    fresh_system.variables = {"PORT": "abc", "BROKER_URL": "s3cret"}
    done = fresh_system.manage(command)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["BROKER_URL", "PORT"]
    assert lines[1] == "PORT: 'abc' is not a port number (1 to 65535)"
    assert "s3cret" not in done.stderr
    assert not fresh_system.home.exists()


def test_ctrl_c_before_anything_started_is_no_traceback(fresh_system: System) -> None:
    code = """
import os, signal, sys, manage
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a job in the background
def hook(event, arguments):
    if event == "import" and arguments[0] == "crm.up.run":
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
sys.argv = ["manage.py", "up"]
sys.exit(manage.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env=fresh_system.environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_a_database_that_is_away_is_named(fresh_system: System) -> None:
    fresh_system.variables = {"DATABASE_URL": "postgresql://ann:s3cret@127.0.0.1:1/muster"}
    done = fresh_system.manage("up")
    assert done.returncode == 1
    assert re.search(r'"127.0.0.1", port 1 failed: Connection refused', done.stderr)
    assert "s3cret" not in done.stderr + done.stdout
    assert fresh_system.processes() == {}


def test_a_broker_that_is_away_is_said_and_so_is_its_return(new_system: System) -> None:
    port = free_port()
    new_system.variables = {"BROKER_URL": f"redis://:s3cret@127.0.0.1:{port}/0"}
    new_system.up()
    shown = f"the broker at redis://:**@127.0.0.1:{port}/0"
    before = new_system.said().partition("\nready ")[0]
    assert f"WARNING: {shown} does not answer: " in before
    assert "refused" in before
    options = ["--port", str(port), "--requirepass", "s3cret", "--save", ""]
    server = subprocess.Popen(
        [str(embedded._valkey_binary()), *options], stdout=subprocess.DEVNULL, cwd="/"
    )
    try:
        eventually(lambda: f"{shown} answers" in new_system.said())
        new_system.running_worker()
        new_system.stop()
    finally:
        server.kill()
        server.wait()
    assert "s3cret" not in new_system.said()
    assert new_system.processes() == {}


def test_workers_end_in_order_although_the_database_is_away(fresh_system: System) -> None:
    """[L13] Nobody leads then, so nobody but `up` can have them stopped."""
    servers = Servers(fresh_system.home.parent / "servers")
    fresh_system.variables = {"DATABASE_URL": servers.urls["DATABASE_URL"]}
    spawn = fresh_system.home / "run" / "workers" / "worker-1" / "1"
    try:
        prepare(servers.folder)
        servers.start("postgres")
        fresh_system.up()
        log = fresh_system.home / "logs" / "workers" / "worker-1" / "stdout.log"
        eventually(lambda: log.exists() and " ready." in log.read_text())
        servers.send("postgres", signal.SIGKILL)
        eventually(lambda: fresh_system.part("master")["restarts"])
        assert fresh_system.stop() < STOP_S
    finally:
        servers.end()
    assert "the agent stopped what no master did: worker-1" in fresh_system.said()
    assert "killed what did not stop in time" not in fresh_system.said()
    assert json.loads((spawn / "exit.json").read_text())["exit"]["code"] == 0
    assert fresh_system.processes() == {}


def test_up_after_kill_9_of_everything(new_system: System) -> None:
    new_system.up()
    new_system.running_worker()
    new_system.kill_everything()
    new_system.up()
    new_system.running_worker()
    assert new_system.stop() < STOP_S
    assert new_system.processes() == {}


def test_up_after_kill_9_of_itself_takes_the_workers_over(new_system: System) -> None:
    new_system.up()
    worker = new_system.running_worker()
    old = {name: new_system.part(name)["pid"] for name in ("postgres", "web", "agent", "master")}
    assert new_system.process
    new_system.process.kill()
    new_system.process.wait()
    assert "nobody keeps these alive" in new_system.manage("ps").stdout
    new_system.up()
    assert "ended what a killed run had left" in new_system.said()
    assert not set(old.values()) & set(new_system.processes())
    assert new_system.running_worker() == worker
    assert new_system.stop() < STOP_S
    assert new_system.processes() == {}
