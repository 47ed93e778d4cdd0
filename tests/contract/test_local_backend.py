"""The contract of a deployment backend [L14], and what the local one promises beyond it: takeover,
exit codes and every log line after SIGKILL of the agent [L7, L10, L11, L12]."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from lifecycle.agent import logfiles, output, process
from lifecycle.backends.base import Ending, Snapshot
from lifecycle.errors import BackendUnavailable, SpawnRefused
from lifecycle.logs.lines import CUT_MARK, LONGEST_LINE, Place, read_all
from lifecycle.types import Alive, Exit, Gone, Instance
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
    said = str(host.gone(alive.instance).exit)
    assert said.startswith("killed by SIGKILL (it did not stop within 0.")


def test_a_forced_stop_hastens_a_graceful_one(host: Host) -> None:
    alive = host.start("ignore=15", "ignore=3", "lines=1", "deaf")
    eventually(host.lines, "it is up")
    host.backend.stop(alive.instance, graceful=True, timeout_s=600)
    host.backend.stop(alive.instance, graceful=False, timeout_s=0)
    assert str(host.gone(alive.instance).exit) == "killed by SIGKILL (as it was asked to)"


def test_stopping_what_does_not_run_says_so(host: Host) -> None:
    assert not host.backend.stop(Instance("nobody", 1), graceful=True, timeout_s=1)


@pytest.mark.parametrize(
    ("word", "said"), [("exit=3", "exit code 3"), ("signal=11", "killed by SIGSEGV")]
)
def test_how_it_ended_is_known(host: Host, word: str, said: str) -> None:
    host.start(word)
    assert str(host.gone(Instance("worker-1", 1)).exit) == said


def test_an_end_is_said_at_once_and_then_how_it_was(host: Host) -> None:
    events = host.backend.watch()
    assert isinstance(next(events), Snapshot)
    alive = host.start()
    assert next(events) == alive
    keeper = host.keeper_pid("worker-1")
    os.kill(keeper, signal.SIGSTOP)
    os.kill(alive.process.pid, signal.SIGKILL)
    assert next(events) == Ending(alive.instance)
    os.kill(keeper, signal.SIGCONT)
    gone = next(events)
    assert isinstance(gone, Gone)
    assert gone.exit == Exit(signal=signal.SIGKILL)


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
    eventually(lambda: host.lines()[1:2] and host.lines()[1].endswith(CUT_MARK), "both lines")
    odd, cut = host.lines()
    assert odd == r"\xff\xfe ok"
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


def zygote_pid(host: Host) -> int:
    return int(host.backend.agent.call("status")["zygote_pid"])


def keepers(host: Host, worker: int) -> list[int]:
    """The keepers of this worker: who but itself has its keeper's lock file open."""
    lock = str(host.home / "run" / "workers" / "worker-1" / "1" / "keeper")
    return [
        found.pid
        for found in psutil.process_iter()
        if found.pid != worker and any(file.path == lock for file in open_files(found))
    ]


def open_files(found: psutil.Process) -> list[psutil._ntuples.popenfile]:
    try:
        return found.open_files()
    except psutil.Error:
        return []


def test_a_worker_has_one_keeper_however_often_one_was_asked_for(host: Host) -> None:
    """While the zygote is frozen, the agent asks again and again."""
    worker = host.start("flood").process.pid
    zygote = zygote_pid(host)
    os.kill(zygote, signal.SIGSTOP)
    keeper = host.keeper_pid("worker-1")
    os.kill(keeper, signal.SIGKILL)
    log = host.home / "agent.log"
    eventually(lambda: log.read_text().count("giving it another") > 3, "it asks again")
    os.kill(zygote, signal.SIGCONT)
    eventually(partial(replaced, host, keeper), "another keeper")
    eventually(lambda: len(keepers(host, worker)) == 1, "one keeper")
    lines = host.lines()
    assert lines == [f"line {n}" for n in range(len(lines))]


def test_a_start_that_comes_late_is_taken_in(host: Host) -> None:
    """Zygote and spare were frozen for longer than anybody waited: the worker is known all the
    same."""
    host.kill_agent()
    host.start_agent("0.2")
    events = host.backend.watch()
    assert next(events) == Snapshot((), (), "code")
    zygote = psutil.Process(zygote_pid(host))
    (spare,) = eventually(zygote.children, "a spare")
    for frozen in (zygote, spare):
        frozen.suspend()
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="did not start"):
            host.start()
    for frozen in (zygote, spare):
        frozen.resume()
    alive = next(events)
    assert isinstance(alive, Alive)
    assert eventually(lambda: host.snapshot().alive, "it is known") == (alive,)
    assert host.start() == alive
    assert (host.home / "run" / "workers" / "worker-1" / "1" / "instance.json").exists()
    host.backend.stop(alive.instance, graceful=False, timeout_s=0)
    host.gone(alive.instance)
    second = host.start(generation=2)  # read after what was asked for twice, which starts nothing
    assert host.snapshot().alive == (second,)


def test_a_successor_starts_beside_its_predecessor_after_one_that_failed(host: Host) -> None:
    """[L8, L11] Generation 3 replaces 1: whichever lock is free is its own, and no fourth runs."""
    first = host.start()
    second = host.backend.start(replace(spec(generation=2), replaces=1))
    host.backend.stop(second.instance, graceful=False, timeout_s=0)
    host.gone(second.instance)
    third = host.backend.start(replace(spec(generation=3), replaces=1))
    assert set(host.snapshot().alive) == {first, third}
    with pytest.raises(BackendUnavailable):
        host.backend.start(replace(spec(generation=4), replaces=1))


def test_a_full_disk_never_blocks_a_worker_and_is_confessed_where_it_was(host: Host) -> None:
    host.start("flood")
    eventually(host.lines, "output")
    keeper = host.keeper_pid("worker-1")
    seen = len(host.lines())
    resource.prlimit(keeper, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    threading.Event().wait(0.3)  # output is lost meanwhile
    resource.prlimit(keeper, resource.RLIMIT_FSIZE, (-1, -1))
    eventually(partial(longer, host, seen + 100), "output goes on")
    lines = host.lines()
    confession = next(n for n, line in enumerate(lines) if line.startswith("[muster] "))
    whole = [line for line in lines[:confession] if line.startswith("line ")]
    assert whole[:seen] == [f"line {n}" for n in range(seen)]
    later = [int(line.removeprefix("line ")) for line in lines[confession + 2 :]]
    assert later == list(range(later[0], later[0] + len(later)))
    assert later[0] > len(whole)


def test_two_keepers_take_turns_in_one_log(tmp_path: Path) -> None:
    """[L8, L12] A worker and its successor: every line of both, once, also over rotations."""
    log = tmp_path / "stdout.log"
    writers, pumps = [], []
    for name in ("a", "b"):
        os.mkfifo(tmp_path / name)
        writers.append(os.open(tmp_path / name, os.O_RDWR))
        pumps.append(output.LogPump(tmp_path / name, log, max_bytes=400, kept=50))
    for number in range(100):
        for name, writer, pump in zip("ab", writers, pumps, strict=True):
            os.write(writer, f"{name} {number}\n".encode())
            pump.move()
    reader = logfiles.LogReader(log, Place(1, 0))
    lines = [line.text for line in read_all(iter(reader.read, None))]
    assert len(logfiles.rotated(log)) > 1
    reader.close()
    for name in "ab":
        mine = [line for line in lines if line.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(100)]
    for pump, writer in zip(pumps, writers, strict=True):
        pump.close()
        os.close(writer)
