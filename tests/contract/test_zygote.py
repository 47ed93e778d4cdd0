"""The preloaded parent: its death, and new code beside old workers [L8, L10]."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil
import pytest

from lifecycle.backends.base import Loaded, Snapshot
from lifecycle.errors import BackendUnavailable
from lifecycle.types import Instance
from tests.host import PATIENCE_S, Host, eventually, running_host


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as made:
        yield made


def zygote(host: Host) -> int:
    return int(host.backend.agent.call("status")["zygote_pid"] or 0)


def is_another(host: Host, former: int) -> int | None:
    found = zygote(host)
    return found if found not in (0, former) else None


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def spares(host: Host) -> list[psutil.Process]:
    return psutil.Process(zygote(host)).children(recursive=True)


def test_a_killed_zygote_is_replaced_and_workers_go_on(host: Host) -> None:
    """Same agent, same worker, every line; and starts, stops and exits work as before."""
    stays = host.start("flood")
    eventually(host.lines, "output")
    assert host.agent is not None
    former, agent = zygote(host), host.agent.pid
    os.kill(former, signal.SIGKILL)
    eventually(partial(is_another, host, former), "another zygote")
    assert (host.agent.poll(), host.agent.pid) == (None, agent)
    second = host.start(worker_id="worker-2")
    assert set(host.snapshot().alive) == {stays, second}
    os.kill(stays.process.pid, signal.SIGSEGV)
    assert host.gone(stays.instance).exit.signal == signal.SIGSEGV
    assert host.lines() == [f"line {n}" for n in range(len(host.lines()))]


def test_keeper_and_zygote_killed_together(host: Host) -> None:
    """The worker is then nobody's: the next zygote's keeper takes it on."""
    alive = host.start("flood")
    eventually(host.lines, "output")
    former, keeper = zygote(host), host.keeper_pid("worker-1")
    for pid in (former, keeper):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: host.keeper_pid("worker-1") != keeper, "another keeper")
    assert host.backend.stop(alive.instance, graceful=False, timeout_s=0)
    assert host.gone(alive.instance).exit.signal == signal.SIGKILL
    assert host.lines() == [f"line {n}" for n in range(len(host.lines()))]


def test_a_start_that_is_asked_for_while_there_is_no_zygote_waits_for_one(host: Host) -> None:
    os.kill(zygote(host), signal.SIGKILL)
    eventually(lambda: not zygote(host), "the agent knows")
    alive = host.start()
    assert host.snapshot().alive == (alive,)


def test_what_stands_by_ends_with_its_zygote(host: Host) -> None:
    pair = eventually(lambda: spares(host) if len(spares(host)) == 2 else None, "a spare pair")
    os.kill(zygote(host), signal.SIGKILL)
    psutil.wait_procs(pair, PATIENCE_S)
    assert all(is_gone(process.pid) for process in pair)


def test_a_spare_that_was_killed_is_in_nobodys_way(host: Host) -> None:
    pair = eventually(lambda: spares(host) if len(spares(host)) == 2 else None, "a spare pair")
    for process in pair:
        process.kill()
    eventually(lambda: all(is_gone(process.pid) for process in pair), "they are gone")
    alive = host.start("lines=3")
    eventually(lambda: len(host.lines()) == 3, "its output")
    assert host.snapshot().alive == (alive,)


def test_new_code_is_for_new_workers(host: Host) -> None:
    """[L8] Those that run go on, with the same keeper; what they run is known."""
    (host.home / "code").write_text("new")
    events = host.backend.watch()
    first = next(events)
    assert isinstance(first, Snapshot)
    assert first.code == "code"
    old = host.start("flood", worker_id="worker-1")
    assert next(events) == old
    former, keeper = zygote(host), host.keeper_pid("worker-1")
    assert host.backend.agent.call("reload") == {"code": "new"}
    assert next(events) == Loaded("new")
    eventually(lambda: is_gone(former), "the old zygote retires")
    assert host.keeper_pid("worker-1") == keeper
    new = host.start(worker_id="worker-2")
    assert (old.code, new.code) == ("code", "new")
    os.kill(old.process.pid, signal.SIGSEGV)
    assert host.gone(old.instance).exit.signal == signal.SIGSEGV
    assert host.lines() == [f"line {n}" for n in range(len(host.lines()))]


def test_a_hangup_loads_the_code_anew(host: Host) -> None:
    (host.home / "code").write_text("new")
    assert host.agent is not None
    os.kill(host.agent.pid, signal.SIGHUP)
    eventually(lambda: host.backend.agent.call("status")["code"] == "new", "new code")


def test_code_that_cannot_be_loaded_changes_nothing_and_says_why(host: Host) -> None:
    (host.home / "code").write_text("broken")
    former = zygote(host)
    with pytest.raises(BackendUnavailable, match="No module named 'broken'"):
        host.backend.agent.call("reload")
    assert zygote(host) == former
    assert "No module named 'broken'" in host.backend.agent.reload_failure()
    assert "No module named 'broken'" in (host.home / "agent.log").read_text()
    assert host.start().code == "code"
    (host.home / "code").write_text("mended")
    host.backend.agent.call("reload")
    assert host.backend.agent.reload_failure() == ""


def test_workers_keep_their_code_over_a_new_agent(host: Host) -> None:
    old = host.start("flood")
    host.kill_agent()
    (host.home / "code").write_text("new")
    host.start_agent()
    seen = host.snapshot()
    assert (seen.code, seen.alive) == ("new", (old,))
    assert host.backend.stop(Instance("worker-1", 1), graceful=False, timeout_s=0)


def test_a_start_that_the_zygote_took_with_it_is_told_at_once(host: Host) -> None:
    """And may be asked for again."""
    former = zygote(host)
    spare, *_worker = eventually(lambda: spares(host), "a spare")
    os.kill(former, signal.SIGSTOP)
    spare.kill()
    eventually(lambda: is_gone(spare.pid), "no spare")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(host.start)
        folder = host.home / "run" / "workers" / "worker-1" / "1" / "spec.json"
        eventually(folder.exists, "the agent has it")
        os.kill(former, signal.SIGKILL)
        with pytest.raises(BackendUnavailable, match="died"):
            asked.result(PATIENCE_S)
    assert host.start().instance == Instance("worker-1", 1)
