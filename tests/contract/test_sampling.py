"""What a pass of samples says of real processes."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle.agent import sampling
from lifecycle.agent.sampling import Sample, Usage
from lifecycle.agent.server import Agent
from lifecycle.types import Alive, ProcessRef
from tests.host import Host, eventually, running_host


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as made:
        yield made


def usage_of(usage: Usage, alive: Alive) -> tuple[float, float]:
    """CPU % since the last pass, and MB."""
    ((worker_id, generation, cpu, memory),) = usage.sample([(alive.instance, alive.process)])
    assert (worker_id, generation) == (alive.instance.worker_id, alive.instance.generation)
    return cpu, memory


def test_memory_is_that_of_main_and_children(host: Host) -> None:
    alive = host.start("eat=30", "child=eat:40", "lines=1")
    eventually(host.lines, "it has eaten")
    eventually(lambda: usage_of(Usage(), alive)[1] > 70, "all of it counts")
    assert usage_of(Usage(), alive)[1] < 130


def test_cpu_is_that_of_main_and_children(host: Host) -> None:
    alive = host.start("child=burn", "lines=1")
    eventually(host.lines, "it is up")
    usage = Usage()
    assert usage_of(usage, alive)[0] == 0.0  # nothing to compare with
    threading.Event().wait(0.3)
    assert 0 < usage_of(usage, alive)[0] <= 110, "a core, or what others leave of it"


def test_an_idle_worker_uses_nothing_and_its_pss_is_not_read_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = host.start("lines=1")
    eventually(host.lines, "it is up")
    usage = Usage()
    _cpu, memory = usage_of(usage, alive)
    reads = []

    def read(pid: int) -> int:
        reads.append(pid)
        return 0

    monkeypatch.setattr(sampling, "_pss", read)
    threading.Event().wait(0.05)
    cpu, again = usage_of(usage, alive)
    assert cpu < 5
    assert again == memory
    assert not reads


def test_memory_that_grows_shows_in_the_next_pass(host: Host) -> None:
    alive = host.start("lines=1", "grow=40")
    eventually(host.lines, "it is up")
    usage = Usage()
    before = usage_of(usage, alive)[1]
    os.kill(alive.process.pid, signal.SIGUSR2)
    eventually(lambda: usage_of(usage, alive)[1] > before + 35, "the growth shows")


def test_a_recycled_pid_is_not_the_worker(host: Host) -> None:
    alive = host.start()
    process = alive.process
    other = ProcessRef(process.pid, process.started_ticks - 1, process.boot_id)
    assert Usage().sample([(alive.instance, other)]) == [("worker-1", 1, 0.0, 0.0)]


def test_a_pass_that_fails_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[L9] Without samples no memory limit is watched."""
    failures: list[Exception] = [OSError(errno.EMFILE, "too many"), RuntimeError("no thread")]

    def sample(_usage: Usage, _workers: object) -> list[Sample]:
        if failures:
            raise failures.pop()
        return [("worker-1", 1, 0.5, 20.0)]

    monkeypatch.setattr(Usage, "sample", sample)
    monkeypatch.setattr(sampling, "until_next", lambda _wall, _interval_s: 0.0)
    assert asyncio.run(_first_samples(tmp_path, monkeypatch)) == [("worker-1", 1, 0.5, 20.0)]


async def _first_samples(home: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    agent = Agent(home, home / "agent.sock", [])
    published: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    monkeypatch.setattr(agent, "_publish", published.put_nowait)
    sampler = asyncio.create_task(agent._sample())
    try:
        async with asyncio.timeout(5):
            return (await published.get())["samples"]
    finally:
        sampler.cancel()
