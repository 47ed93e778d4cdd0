"""A full disk costs output and never silently [L12]: also when whoever dropped it is gone by the
time there is room. Keepers meet a full disk as a limit on the size of their files: below that of
the log, and above that of what need not grow."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle.agent import output
from lifecycle.types import Alive
from tests.host import Host, eventually, running_host

FULL = (1024, resource.RLIM_INFINITY)
QUITE_FULL = (16, resource.RLIM_INFINITY)
ROOM = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
BEFORE = [f"line {n}" for n in range(200)]
DROPPED = sum(len(f"line {n}\n") for n in range(1000))
CONFESSION = f"[muster] {DROPPED} bytes of output were lost here: the disk was full"


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as made:
        yield made


def log_of(host: Host) -> Path:
    return host.home / "logs" / "workers" / "worker-1" / "stdout.log"


def is_whole(host: Host) -> bool:
    """All that comes before is in the log. Its last line, too: where Python doesn't buffer, the
    end of a line is a write of its own."""
    return host.lines() == BEFORE and log_of(host).read_bytes().endswith(b"\n")


def print_while_full(host: Host, *then: str) -> Alive:
    """A worker that printed 200 lines, and 1000 for which there was no room."""
    alive = host.start("lines=200", "wait", "lines=1000", *then)
    eventually(lambda: is_whole(host), "what it prints first")
    resource.prlimit(host.keeper_pid("worker-1"), resource.RLIMIT_FSIZE, FULL)
    os.kill(alive.process.pid, signal.SIGUSR2)
    eventually(lambda: output.lost_of(log_of(host)) == DROPPED, "it is counted")
    return alive


def told(host: Host) -> list[str]:
    """The lines, without the empty ones that a confession may bring about."""
    return [line for line in host.lines() if line]


def test_the_next_start_says_what_the_last_one_lost(host: Host) -> None:
    alive = print_while_full(host, "exit=3")
    assert host.gone(alive.instance).exit.code == 3
    host.start("lines=1", generation=2)
    eventually(lambda: "line 0" in host.lines()[200:], "the next output")
    assert told(host) == [*BEFORE, CONFESSION, "line 0"]
    assert output.lost_of(log_of(host)) == 0


def test_the_agent_says_it_where_nothing_starts_any_more(host: Host) -> None:
    alive = print_while_full(host, "exit=3")
    host.gone(alive.instance)
    eventually(lambda: CONFESSION in host.lines(), "the agent says it")
    assert told(host) == [*BEFORE, CONFESSION]


def test_the_next_agent_says_it(host: Host) -> None:
    alive = print_while_full(host, "deaf")
    host.kill_agent()
    os.kill(alive.process.pid, signal.SIGKILL)
    spawn = host.home / "run" / "workers" / "worker-1" / "1"
    eventually((spawn / "exit.json").exists, "its keeper is done")
    host.start_agent()
    eventually(lambda: CONFESSION in host.lines(), "the new agent says it")
    assert told(host) == [*BEFORE, CONFESSION]


def test_a_keeper_that_is_killed_takes_no_count_with_it(host: Host) -> None:
    print_while_full(host, "wait", "lines=1", "deaf")
    keeper = host.keeper_pid("worker-1")
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: host.keeper_pid("worker-1") != keeper, "another keeper")
    os.kill(host.snapshot().alive[0].process.pid, signal.SIGUSR2)
    eventually(lambda: "line 0" in host.lines()[200:], "output goes on")
    assert told(host) == [*BEFORE, CONFESSION, "line 0"]


def test_it_is_said_once_and_before_what_comes_later(host: Host) -> None:
    alive = print_while_full(host, "wait", "lines=2", "deaf")
    resource.prlimit(host.keeper_pid("worker-1"), resource.RLIMIT_FSIZE, ROOM)
    os.kill(alive.process.pid, signal.SIGUSR2)
    eventually(lambda: host.lines()[-1] == "line 1", "output goes on")
    os.kill(alive.process.pid, signal.SIGKILL)
    host.gone(alive.instance)
    assert told(host) == [*BEFORE, CONFESSION, "line 0", "line 1"]


def test_an_exit_that_its_keeper_could_not_write_down_is_known(host: Host) -> None:
    alive = host.start("lines=200", "deaf")
    eventually(lambda: is_whole(host), "it is up")
    resource.prlimit(host.keeper_pid("worker-1"), resource.RLIMIT_FSIZE, QUITE_FULL)
    os.kill(alive.process.pid, signal.SIGSEGV)
    assert host.gone(alive.instance).exit.signal == signal.SIGSEGV
    assert host.start(generation=2).instance.generation == 2
