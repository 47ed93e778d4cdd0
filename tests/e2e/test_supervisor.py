"""The supervisor, the lock, the logs and the leftovers, with small real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from crm.env import CHECKOUT, Env
from crm.up import output, state
from crm.up.leftovers import end_leftovers
from crm.up.parts import Launch, Part, python_part
from crm.up.state import AlreadyRunning, PartRecord, PartState, UpState, home_lock
from crm.up.supervisor import Supervisor
from lifecycle.agent import process
from tests.processes import kill_all, processes_of
from tests.waiting import eventually_nothing, until

SLEEP = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.pause()"
STUBBORN = """
import signal
from tests.waiting import until
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
signal.pause()
"""
# Dies when it is about to write down the process that it has just started.
KILLED_BEFORE_THE_RECORD = """
import asyncio, os, signal
from crm.env import env
from crm.up import supervisor
from crm.up.parts import python_part
from tests.e2e.test_supervisor import SLEEP, up_state

supervisor.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

async def scenario():
    supervisor.Supervisor(env, up_state(), print).start(python_part("sleeper", "-c", SLEEP))
    await asyncio.Event().wait()

asyncio.run(scenario())
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Env:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    return Env()


def up_state() -> UpState:
    me = process.refer(os.getpid())
    return UpState(me.pid, me.started_ticks, me.boot_id, "http://x/", "2026-01-01T00:00:00+00:00")


@asynccontextmanager
async def supervising(env: Env, said: list[str]) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(env, up_state(), said.append)
    try:
        yield supervisor
    finally:
        for record in supervisor.state.parts:
            await supervisor.end(record.name)
        await supervisor.close()


def test_a_part_that_dies_comes_back_and_is_written_down(env: Env) -> None:
    said: list[str] = []

    async def scenario() -> None:
        async with supervising(env, said) as supervisor:
            supervisor.start(python_part("sleeper", "-c", SLEEP))
            await supervisor.started("sleeper")
            first = written(env)
            assert first["pid"]
            os.kill(first["pid"], signal.SIGKILL)
            await until(lambda: written(env)["pid"] not in (None, first["pid"]))
            assert written(env)["restarts"] == 1
            assert "sleeper ended after" in said[0]
            assert "killed by SIGKILL" in said[0]
            await supervisor.end("sleeper", (signal.SIGTERM, 10.0))
            assert written(env)["state"] == "stopped"

    asyncio.run(scenario())


def test_a_part_that_can_not_be_prepared_is_tried_again(env: Env) -> None:
    said: list[str] = []
    tries: list[int] = []

    def prepare() -> Launch:
        tries.append(1)
        if len(tries) < 2:
            raise OSError("no disk")
        return Launch((sys.executable, "-c", SLEEP))

    async def scenario() -> None:
        async with supervising(env, said) as supervisor:
            supervisor.start(Part("late", prepare))
            await supervisor.started("late")

    asyncio.run(scenario())
    assert "can't be started: no disk" in said[0]


def test_a_part_that_ignores_sigterm_is_killed(env: Env) -> None:
    said: list[str] = []
    log = env.home / "logs" / "stubborn.log"

    async def scenario() -> None:
        async with supervising(env, said) as supervisor:
            supervisor.start(python_part("stubborn", "-c", STUBBORN))
            await until(lambda: "deaf" in log.read_text() if log.exists() else False)
            await supervisor.end("stubborn", (signal.SIGTERM, 0.2))

    asyncio.run(scenario())
    assert said == ["stubborn did not stop in time: killed"]


def test_a_part_that_waits_for_its_restart_can_be_ended(env: Env) -> None:
    async def scenario() -> None:
        async with supervising(env, []) as supervisor:
            supervisor.start(python_part("brief", "-c", "raise SystemExit(3)"))
            await until(lambda: written(env).get("state") == "waiting")
            await supervisor.end("brief", (signal.SIGTERM, 10.0))
            assert written(env)["state"] == "stopped"

    asyncio.run(scenario())


def test_a_part_that_nobody_wrote_down_does_not_begin(env: Env) -> None:
    """The next `up` could not find it: beat would run twice, the web's port would be in use."""
    up = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_RECORD], cwd=CHECKOUT)
    assert up.returncode == -signal.SIGKILL
    try:
        eventually_nothing(lambda: list(processes_of(env.home).values()), 10)
    finally:
        kill_all(env.home)


def test_what_runs_once_is_written_down_while_it_runs(env: Env) -> None:
    async def scenario() -> None:
        async with supervising(env, []) as supervisor:
            async with supervisor.oneshot("brief", "-c", f"print('hi', flush=True); {SLEEP}") as it:
                assert it.stdout
                assert await it.stdout.readline() == b"hi\n"
                assert (written(env)["name"], written(env)["pid"]) == ("brief", it.pid)
            assert it.returncode == -signal.SIGKILL
            assert json.loads(state.state_file(env.home).read_text())["parts"] == []

    asyncio.run(scenario())


def written(env: Env) -> dict[str, Any]:
    """The first part in `up.json`, as soon as there is one."""
    try:
        content = json.loads((env.home / "run" / "up.json").read_text())
    except FileNotFoundError:
        return {}
    first: dict[str, Any] = content["parts"][0]
    return first


def test_one_lock_for_a_home(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with home_lock(tmp_path, "http://x/"):
        with pytest.raises(AlreadyRunning) as refused, home_lock(tmp_path, "http://y/"):
            pass
        assert (refused.value.pid, refused.value.url) == (os.getpid(), "http://x/")
    with home_lock(tmp_path, "http://y/"):
        pass


def test_leftovers_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    ours, stranger = (subprocess.Popen([sys.executable, "-c", SLEEP]) for _ in range(2))
    try:
        former = up_state()
        for name, child, shift in (("web", ours, 0), ("master", stranger, 1)):
            ticks = process.started_ticks(child.pid) or 0
            former.parts.append(PartRecord(name, child.pid, ticks + shift, PartState.RUNNING))
        state.write(tmp_path, former)
        assert end_leftovers(tmp_path) == ["web"]
        assert ours.wait(10) is not None
        assert stranger.poll() is None  # its pid is in up.json, but it started at another time
    finally:
        for child in (ours, stranger):
            child.kill()
            child.wait()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"parts": [{"state": "odd"}]}'])
def test_a_broken_state_file_is_no_state(tmp_path: Path, content: str) -> None:
    state.state_file(tmp_path).parent.mkdir()
    state.state_file(tmp_path).write_text(content)
    assert state.read(tmp_path) is None
    assert end_leftovers(tmp_path) == []


def test_a_grown_log_is_rotated_under_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "web.log"
    writer = output.open_log(path)
    for number in range(5):
        os.write(writer, b"%d" % number * 10)
        assert output.rotate(path, limit_bytes=10, kept=3)
    os.write(writer, b"new")
    assert not output.rotate(path, limit_bytes=10, kept=3)
    os.close(writer)
    assert path.read_text() == "new"
    assert [path.with_name(f"web.log.{n}").read_text()[0] for n in (1, 2, 3)] == ["4", "3", "2"]
    assert sorted(file.name for file in path.parent.iterdir())[-1] == "web.log.3"
