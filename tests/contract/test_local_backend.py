"""The contract of a deployment backend [L14], and what the local one promises beyond it: takeover,
exit codes and every log line after SIGKILL of the agent [L7, L10, L11, L12]."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import psutil
import pytest

from lifecycle.agent import process
from lifecycle.errors import BackendUnavailable, SpawnRefused
from lifecycle.logs.lines import CUT_MARK, LONGEST_LINE
from lifecycle.types import Instance
from tests.host import PATIENCE_S, Host, eventually, running_host, spec


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as made:
        yield made


# --- the contract ------------------------------------------------------------------------------


def test_a_started_worker_is_alive(host: Host) -> None:
    alive = host.start()
    assert process.is_alive(alive.process)
    assert host.snapshot().alive == (alive,)


def test_starting_the_same_instance_again_changes_nothing(host: Host) -> None:
    assert host.start() == host.start()


def test_another_generation_is_not_started_beside_it(host: Host) -> None:
    host.start()
    with pytest.raises(BackendUnavailable, match="still runs"):
        host.start(generation=2)


def test_a_graceful_stop_lets_it_end_by_itself(host: Host) -> None:
    alive = host.start("lines=1")
    eventually(host.lines, "it is up")
    assert host.backend.stop(alive.instance, graceful=True, timeout_s=10)
    assert host.gone(alive.instance).exit.code == 0


def test_a_stop_that_is_ignored_ends_in_sigkill_at_its_deadline(host: Host) -> None:
    alive = host.start("ignore=15", "ignore=3", "lines=1", "deaf")
    eventually(host.lines, "it is up")
    host.backend.stop(alive.instance, graceful=True, timeout_s=0.3)
    assert host.gone(alive.instance).exit.signal == signal.SIGKILL


def test_a_forced_stop_hastens_a_graceful_one(host: Host) -> None:
    alive = host.start("ignore=15", "ignore=3", "lines=1", "deaf")
    eventually(host.lines, "it is up")
    host.backend.stop(alive.instance, graceful=True, timeout_s=600)
    host.backend.stop(alive.instance, graceful=False, timeout_s=0)
    assert host.gone(alive.instance).exit.signal == signal.SIGKILL


def test_stopping_what_does_not_run_says_so(host: Host) -> None:
    assert not host.backend.stop(Instance("nobody", 1), graceful=True, timeout_s=1)


@pytest.mark.parametrize(
    ("word", "said"), [("exit=3", "exit code 3"), ("signal=11", "killed by SIGSEGV")]
)
def test_how_it_ended_is_known(host: Host, word: str, said: str) -> None:
    host.start(word)
    assert str(host.gone(Instance("worker-1", 1)).exit) == said


def test_an_end_is_reported_until_it_is_acknowledged(host: Host) -> None:
    instance = host.start("exit=0").instance
    host.gone(instance)
    assert host.gone(instance).exit.code == 0
    host.backend.acknowledge(instance)
    assert host.snapshot().gone == ()


def test_a_spec_that_can_never_work_is_refused_with_the_reason(host: Host) -> None:
    with pytest.raises(SpawnRefused, match="/nowhere does not exist"):
        host.backend.start(spec(folder="/nowhere"))
    assert host.snapshot().alive == ()
    host.start(generation=2)  # and nothing is in the way of the next one


def test_environment_and_working_directory(host: Host) -> None:
    host.backend.start(spec("env=COLOUR", "cwd", folder=str(host.home), COLOUR="green"))
    eventually(lambda: len(host.lines()) == 2, "both lines")
    assert host.lines() == ["green", str(host.home)]


def test_output_by_stream(host: Host) -> None:
    host.start("lines=3", "stderr=oh")
    eventually(lambda: host.lines("stderr"), "stderr")
    assert host.lines() == ["line 0", "line 1", "line 2"]
    assert host.lines("stderr") == ["oh"]
    assert host.lines(tail=1) == ["line 2"]


def test_output_that_is_no_text_is_shown_escaped_and_long_lines_are_cut(host: Host) -> None:
    long = b"x" * (LONGEST_LINE + 10) + b"\n"
    host.start("bytes=" + b"\xff\xfe ok\n".hex(), "bytes=" + long.hex())
    eventually(lambda: len(host.lines()) == 2, "both lines")
    odd, cut = host.lines()
    assert odd == r"\xff\xfe ok"
    assert cut.endswith(CUT_MARK)
    assert len(cut) == LONGEST_LINE + len(CUT_MARK)


# --- nothing is left, nothing is lost ----------------------------------------------------------


def test_a_stray_that_left_the_process_group_ends_with_its_worker(host: Host) -> None:
    """[L7] supervisord, circus, runit and s6 leave it running."""
    alive = host.start("stray")
    worker = psutil.Process(alive.process.pid)
    stray = eventually(worker.children, "the stray runs")[0]
    os.kill(alive.process.pid, signal.SIGKILL)
    host.gone(alive.instance)
    assert not stray.is_running()


def test_every_line_before_a_crash_is_kept(host: Host) -> None:
    """[L12]"""
    host.start("lines=20000", "signal=9")
    host.gone(Instance("worker-1", 1))
    assert host.lines() == [f"line {n}" for n in range(20_000)]


def test_workers_outlive_a_killed_agent_and_are_taken_over(host: Host) -> None:
    """[L10] Same pid, no second start, no lost line, real exits of those that ended meanwhile."""
    stays = host.start("flood", worker_id="worker-1")
    goes = host.start(worker_id="worker-2")
    eventually(host.lines, "output")
    host.kill_agent()
    os.kill(goes.process.pid, signal.SIGSEGV)
    eventually(lambda: not process.is_alive(goes.process), "worker-2 dies unseen")
    host.start_agent()
    assert host.snapshot().alive == (stays,)
    assert host.start("flood", worker_id="worker-1") == stays
    assert host.gone(goes.instance).exit.signal == signal.SIGSEGV
    os.kill(stays.process.pid, signal.SIGKILL)
    host.gone(stays.instance)
    assert host.lines() == [f"line {n}" for n in range(len(host.lines()))]


def test_a_second_agent_is_refused(host: Host) -> None:
    command = [sys.executable, "-m", "tests.tiny_agent", str(host.home), str(host.socket)]
    second = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert second.returncode != 0
    assert b"another agent holds" in second.stderr


def test_a_worker_is_never_started_twice_even_by_an_agent_with_no_memory(host: Host) -> None:
    """[L11] The lock is in the operating system: held by the process tree, not written in a row."""
    first = host.start()
    host.kill_agent()
    record = host.home / "run" / "workers" / "worker-1" / "1" / "instance.json"
    hidden = record.rename(record.with_name("hidden"))
    host.start_agent()
    with pytest.raises(BackendUnavailable, match="lock"):
        host.start(generation=2)
    assert process.is_alive(first.process)
    hidden.rename(record)
    assert eventually(lambda: host.snapshot().alive, "it is found again") == (first,)


def replaced(host: Host, keeper: int) -> bool:
    return host.keeper_pid("worker-1") != keeper


def longer(host: Host, seen: int) -> bool:
    return len(host.lines()) > seen


def test_a_killed_keeper_is_replaced_and_nothing_is_lost(host: Host) -> None:
    """[L10, L12] Same worker, same exit code, every line once."""
    alive = host.start("flood")
    eventually(host.lines, "output")
    for _ in range(3):
        keeper = host.keeper_pid("worker-1")
        os.kill(keeper, signal.SIGKILL)
        eventually(partial(replaced, host, keeper), "another keeper")
        eventually(partial(longer, host, len(host.lines())), "output goes on")
    assert host.snapshot().alive == (alive,)
    os.kill(alive.process.pid, signal.SIGSEGV)
    assert host.gone(alive.instance).exit.signal == signal.SIGSEGV
    assert host.lines() == [f"line {n}" for n in range(len(host.lines()))]


def test_keeper_and_worker_killed_together(host: Host) -> None:
    alive = host.start("lines=500", "deaf")
    eventually(lambda: len(host.lines()) == 500, "output")
    os.kill(host.keeper_pid("worker-1"), signal.SIGSTOP)
    os.kill(host.keeper_pid("worker-1"), signal.SIGKILL)
    os.kill(alive.process.pid, signal.SIGKILL)
    assert host.gone(alive.instance).exit.signal in (signal.SIGKILL, None)
    assert len(host.lines()) == 500
    host.start(generation=2)


def test_a_keeper_that_died_while_no_agent_was_there_is_replaced(host: Host) -> None:
    alive = host.start("flood")
    keeper = host.keeper_pid("worker-1")
    host.kill_agent()
    os.kill(keeper, signal.SIGKILL)
    host.start_agent()
    eventually(partial(replaced, host, keeper), "another keeper")
    assert host.backend.stop(alive.instance, graceful=False, timeout_s=0)
    assert host.gone(alive.instance).exit.signal == signal.SIGKILL
    assert host.lines() == [f"line {n}" for n in range(len(host.lines()))]
