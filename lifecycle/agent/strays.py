"""Ending what a worker left behind when its keeper, the subreaper, was killed before it [L7].

Then nobody inherits its children: they are found by what they carry. Each is named by pid and start
and signalled by pidfd, so a recycled pid is never hit.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lifecycle.agent import process
from lifecycle.types import ProcessRef

MARK = "MUSTER_SPAWN"  # in the environment of a worker, and so of all programs that it runs
PASSES = 50
DEATH_S = 2.0
STANDARD = ("0", "1", "2")


def end(spawn: Path, worker: ProcessRef) -> None:
    """SIGKILL to all that is left of this spawn, until a look finds nothing; `spawn` is its folder.

    What cleared its environment, closed its output and left the session is not recognised.
    """
    for _ in range(PASSES):
        found = list(left_of(spawn, worker))
        if not found:
            return
        for one in found:
            _kill(one)


def left_of(spawn: Path, worker: ProcessRef) -> Iterator[ProcessRef]:
    """Living processes of this spawn, its main process not included.

    One that is listed may fork and end before it is looked at: whoever was born meanwhile is looked
    at too, until nobody was. After another boot nothing is left: its numbers are strangers' now.
    """
    if worker.boot_id != process.boot_id():
        return
    leader = process.started_ticks(worker.pid)
    is_recycled = leader is not None and leader != worker.started_ticks
    for pid in _everybody():
        if pid in (os.getpid(), worker.pid):
            continue
        fields = process.stat_fields(pid)
        if not fields or fields[0] == "Z" or int(fields[19]) < worker.started_ticks:
            continue
        in_group = not is_recycled and str(worker.pid) in fields[2:4]  # its group, its session
        entry = Path(f"/proc/{pid}")
        if (in_group or _carries(entry, spawn)) and _is_process(entry):
            yield ProcessRef(pid, int(fields[19]), process.boot_id())


def _everybody() -> Iterator[int]:
    """The pids of now, then those that were given since: some of them to threads, or gone."""
    newest = _newest_pid()
    yield from (int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit())
    while (now := _newest_pid()) != newest:
        last = _largest_pid() if now < newest else now
        yield from range(newest + 1, last + 1)
        if now < newest:  # they begin anew
            yield from range(1, now + 1)
        newest = now


def _is_process(entry: Path) -> bool:
    """Not a thread, which has an entry that is not listed."""
    with suppress(OSError):
        return f"\nTgid:\t{entry.name}\n" in (entry / "status").read_text(errors="replace")
    return False


def _largest_pid() -> int:
    return int(Path("/proc/sys/kernel/pid_max").read_text())


def _newest_pid() -> int:
    return int(Path("/proc/loadavg").read_text().rpartition(" ")[2])


def _carries(entry: Path, spawn: Path) -> bool:
    """The mark in its environment (a program), or the worker's output as its own (a fork)."""
    with suppress(OSError):  # gone, or not ours to look at
        if f"{MARK}={spawn}".encode() in (entry / "environ").read_bytes().split(b"\0"):
            return True
        return any((entry / "fd" / number).readlink().parent == spawn for number in STANDARD)
    return False


def _kill(one: ProcessRef) -> None:
    pidfd = process.open_pidfd(one)
    if pidfd is None:
        return
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        end = select.poll()  # select(2) takes no descriptor over 1023
        end.register(pidfd, select.POLLIN)
        end.poll(DEATH_S * 1000)
    os.close(pidfd)
