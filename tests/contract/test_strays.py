"""Nothing is left behind [L7], also when the keeper, which inherits orphans, was killed before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from lifecycle.agent import process, strays
from lifecycle.backends.base import Ending
from lifecycle.types import Alive, Gone, ProcessRef
from tests.host import Host, eventually, running_host

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as made:
        yield made


def tree(alive: Alive, size: int) -> list[psutil.Process]:
    """The worker's descendants, once there are so many."""
    worker = psutil.Process(alive.process.pid)

    def look() -> list[psutil.Process] | None:
        found = worker.children(recursive=True)
        return found if len(found) == size else None

    return eventually(look, f"{size} descendants")


def without_keeper(host: Host) -> None:
    """Kill the keeper, and wait for its successor."""
    keeper = host.keeper_pid("worker-1")
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: host.keeper_pid("worker-1") != keeper, "another keeper")


def is_over(left: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in left)


@pytest.mark.parametrize("word", ["stray", "daemon", "child=deaf:"])
def test_a_stray_ends_although_its_keeper_was_replaced(host: Host, word: str) -> None:
    """A program in a session of its own, a fork in a session of its own, a pool child."""
    alive = host.start(word, word)
    left = tree(alive, 2)
    without_keeper(host)
    os.kill(alive.process.pid, signal.SIGKILL)
    host.gone(alive.instance)
    assert is_over(left)


def test_an_end_is_told_when_nothing_of_the_worker_is_left(host: Host) -> None:
    """[L7] Also of a child that takes its time to die: what comes next finds the machine as it
    would be without it."""
    events = host.backend.watch()
    next(events)  # what there is: nothing
    alive = host.start("child=eat:400")
    left = tree(alive, 1)
    eventually(lambda: left[0].memory_info().rss > 400 * 1024 * 1024, "it is large")
    os.kill(alive.process.pid, signal.SIGKILL)
    told = [type(next(events)) for _ in range(3)]
    assert told == [Alive, Ending, Gone]
    assert is_over(left)


def test_strays_end_when_keeper_and_worker_are_killed_together(host: Host) -> None:
    alive = host.start("stray", "daemon", "child=deaf:")
    left = tree(alive, 3)
    keeper = host.keeper_pid("worker-1")
    os.kill(keeper, signal.SIGSTOP)
    os.kill(alive.process.pid, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    host.gone(alive.instance)
    eventually(lambda: is_over(left), "all are gone")


def test_strays_of_one_worker_are_not_those_of_another(host: Host) -> None:
    first, other = host.start("stray"), host.start("stray", "daemon", worker_id="worker-2")
    mine, others = tree(first, 1), tree(other, 2)
    without_keeper(host)
    os.kill(first.process.pid, signal.SIGKILL)
    host.gone(first.instance)
    assert is_over(mine)
    assert all(one.is_running() for one in others)
    assert process.is_alive(other.process)


def test_a_recycled_pid_and_its_group_are_left_alone(tmp_path: Path) -> None:
    """Somebody else leads a group by the number that our worker had."""
    with subprocess.Popen(SLEEPER, start_new_session=True) as stranger:
        now = process.refer(stranger.pid)
        ours = ProcessRef(now.pid, now.started_ticks - 1, now.boot_id)
        assert list(strays.left_of(tmp_path / "7", ours)) == []
        strays.end(tmp_path / "7", ours)
        assert stranger.poll() is None
        stranger.kill()


ORPHAN = """
import os, signal
if orphan := os.fork():
    print(orphan, flush=True)
    os._exit(0)
signal.pause()
"""


def test_numbers_of_another_boot_name_strangers(tmp_path: Path) -> None:
    """A session outlives its leader, whose number may be that of a worker of the boot before."""
    command = [sys.executable, "-c", ORPHAN]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as leader:
        assert leader.stdout
        orphan = int(leader.stdout.readline())
        leader.wait()
    try:
        now, before = (ProcessRef(leader.pid, 0, boot) for boot in (process.boot_id(), "before"))
        assert [one.pid for one in strays.left_of(tmp_path / "7", now)] == [orphan]
        assert list(strays.left_of(tmp_path / "7", before)) == []
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_worker_that_forks_while_it_is_ended_leaves_nothing(host: Host) -> None:
    alive = host.start("breed")
    eventually(lambda: len(psutil.Process(alive.process.pid).children()) > 3, "children")
    without_keeper(host)
    os.kill(alive.process.pid, signal.SIGKILL)
    host.gone(alive.instance)
    spawn = host.home / "run" / "workers" / "worker-1" / "1"
    assert list(strays.left_of(spawn, alive.process)) == []


def test_those_born_during_a_look_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was listed has forked and ended before its turn came."""
    counter = iter([100, 103, 104, 104])
    monkeypatch.setattr(strays, "_newest_pid", lambda: next(counter))
    listed = list(strays._everybody())
    assert os.getpid() in listed
    assert listed[-4:] == [101, 102, 103, 104]


def test_pids_that_begin_anew_are_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = strays._largest_pid()
    counter = iter([largest - 2, 2, 2])
    monkeypatch.setattr(strays, "_newest_pid", lambda: next(counter))
    assert list(strays._everybody())[-4:] == [largest - 1, largest, 1, 2]


def test_a_thread_is_no_process() -> None:
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(threading.get_native_id).result()
        assert Path(f"/proc/{thread}/stat").exists()
        assert not strays._is_process(Path(f"/proc/{thread}"))
    assert strays._is_process(Path(f"/proc/{os.getpid()}"))
