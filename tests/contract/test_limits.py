"""Limits of real worker processes. The kernel's part of cgroup v2 is played by plain files where
the machine has no controllers to give; keeper, worker and exit record are real."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle.agent.limits import Room
from tests.host import Host, eventually, running_host

CRAMPED_MB = 32


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as made:
        yield made


@pytest.fixture
def room(host: Host) -> Room:
    """The host again, now with a room for groups."""
    host.kill_agent()
    (host.home / "room").mkdir()
    host.start_agent()
    return Room(host.home / "room")


def test_cpu_cores_are_cpus_where_there_are_no_cgroups(host: Host) -> None:
    host.start("cpus", cpu_cores=0.5)
    assert eventually(host.lines, "it says") == ["1"]


def test_a_worker_that_may_use_all_is_not_pinned(host: Host) -> None:
    host.start("cpus", cpu_cores=4096)
    assert eventually(host.lines, "it says") == [str(len(os.sched_getaffinity(0)))]


def test_a_worker_enters_a_group_of_its_own(host: Host, room: Room) -> None:
    alive = host.start("lines=1", max_memory_mb=100, cpu_cores=2)
    eventually(host.lines, "it is up")
    group = room.group(alive.instance)
    assert (group / "memory.max").read_text() == str(125 * 1024 * 1024)
    assert (group / "cpu.max").read_text() == "200000 100000"
    assert (group / "cgroup.procs").read_text() == "0"  # the kernel reads: the writer
    assert host.lines("stderr") == []


def test_an_exit_by_the_oom_killer_is_told(host: Host, room: Room) -> None:
    alive = host.start("lines=1", max_memory_mb=100)
    eventually(host.lines, "it is up")
    (room.group(alive.instance) / "memory.events").write_text("oom 1\noom_kill 1\n")
    os.kill(alive.process.pid, signal.SIGKILL)
    assert str(host.gone(alive.instance).exit) == (
        "killed by SIGKILL (probably out of memory: cgroup says so)"
    )


@pytest.fixture
def cramped() -> Iterator[Path]:
    """A group of the kernel in which little memory is left: cgroup v1, of which we use nothing."""
    group = Path(f"/sys/fs/cgroup/memory/muster-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no cgroup v1 memory controller is ours here")
    (group / "memory.limit_in_bytes").write_text(str(CRAMPED_MB * 1024 * 1024))
    yield group
    eventually(lambda: not (group / "cgroup.procs").read_text(), "nobody is inside")
    group.rmdir()


def test_a_worker_that_the_kernel_ends_for_its_memory(host: Host, cramped: Path) -> None:
    """The real OOM killer: nothing but the kernel's own log tells of it [L5]."""
    alive = host.start("lines=1", f"grow={4 * CRAMPED_MB}")
    eventually(host.lines, "it is up")
    (cramped / "cgroup.procs").write_text(str(alive.process.pid))
    os.kill(alive.process.pid, signal.SIGUSR2)
    assert str(host.gone(alive.instance).exit) == (
        "killed by SIGKILL (probably out of memory: kernel says so)"
    )


def test_an_ordinary_kill_is_not_blamed_on_memory(host: Host, room: Room) -> None:
    alive = host.start("lines=1")
    eventually(host.lines, "it is up")
    os.kill(alive.process.pid, signal.SIGKILL)
    assert str(host.gone(alive.instance).exit) == "killed by SIGKILL"


def test_a_limit_that_cannot_be_set_keeps_nobody_down(host: Host, room: Room) -> None:
    room.path.rmdir()
    host.start("lines=1", max_memory_mb=100)
    eventually(host.lines, "it is up all the same")
    (said,) = eventually(lambda: host.lines("stderr"), "it says so")
    assert said.startswith("resource limits are watched, not enforced:")
