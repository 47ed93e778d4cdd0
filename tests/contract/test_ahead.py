"""The start that is got ready while the master decides: it is used, or leaves nothing [L5, L11]."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lifecycle.types import Alive
from tests.host import Host, eventually, running_host


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as made:
        yield made


def standing_by(host: Host) -> set[int]:
    zygote = int(host.backend.agent.call("status")["zygote_pid"])
    return {process.pid for process in psutil.Process(zygote).children(recursive=True)}


def next_folder(host: Host) -> Path:
    return host.home / "run" / "workers" / "worker-1" / "2"


def crashed(host: Host, *words: str) -> tuple[Alive, set[int]]:
    """A worker that was killed, and the spare pair that stood by when it was."""
    alive = host.start(*words)
    keeper = host.keeper_pid("worker-1")

    def pair() -> set[int] | None:
        found = standing_by(host) - {keeper, alive.process.pid}
        is_known = host.backend.agent.call("status")["has_spare"]
        return found if is_known and len(found) == 2 else None

    spares = eventually(pair, "a spare and its worker")
    os.kill(alive.process.pid, signal.SIGKILL)
    eventually((next_folder(host) / "spec.json").exists, "the next start is got ready")
    return alive, spares


def test_a_restart_is_the_start_that_was_got_ready(host: Host) -> None:
    first, spares = crashed(host, "lines=1")
    second = host.start("lines=1", generation=2)
    assert second.process.pid in spares
    assert second.started_at > first.started_at
    eventually(lambda: host.lines() == ["line 0", "line 0"], "both lines")


def test_a_start_with_another_spec_is_what_was_asked_for(host: Host) -> None:
    crashed(host)
    host.start("lines=2", generation=2)
    eventually(lambda: host.lines() == ["line 0", "line 1"], "both lines")


def test_a_start_that_nobody_asks_for_leaves_nothing(host: Host) -> None:
    """And another spare stands by."""
    ended, former = crashed(host)
    eventually(lambda: not next_folder(host).exists(), "it is dropped")
    spares = eventually(lambda: standing_by(host) - former, "another spare")
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in former), "the former pair ends")
    assert host.gone(ended.instance).exit.signal == signal.SIGKILL
    third = host.start(generation=3)
    assert third.process.pid in spares | standing_by(host)


def test_one_that_was_asked_to_stop_is_not_followed(host: Host) -> None:
    alive = host.start()
    host.backend.stop(alive.instance, graceful=True, timeout_s=30)
    host.gone(alive.instance)
    assert not next_folder(host).exists()


def test_a_killed_spare_is_noticed_and_another_starts(host: Host) -> None:
    _first, spares = crashed(host)
    for pid in spares:
        psutil.Process(pid).kill()
    second = host.start("lines=1", generation=2)
    assert second.process.pid not in spares
    eventually(lambda: host.lines() == ["line 0"], "its line")


def test_an_agent_that_died_meanwhile_leaves_nothing(host: Host) -> None:
    ended, spares = crashed(host)
    host.kill_agent()
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in spares), "the pair ends")
    host.start_agent()
    eventually(lambda: not next_folder(host).exists(), "nothing is left")
    assert host.snapshot().alive == ()
    assert host.gone(ended.instance).exit.signal == signal.SIGKILL
    host.start(generation=2)
