"""Processes as the kernel knows them: named so that a recycled pid is never mistaken for one."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import struct
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import cast

from lifecycle.types import Exit, ProcessRef

PR_SET_CHILD_SUBREAPER = 36
# linux/pidfd.h, since 6.15: how a process ended, readable by anybody who holds its pidfd, once its
# parent has reaped it.
PIDFD_GET_INFO = 0xC040FF0B
PIDFD_INFO_EXIT = 1 << 3
PIDFD_INFO_BYTES = 64
PIDFD_INFO_EXIT_CODE_AT = 60

LIBC = ctypes.CDLL(None, use_errno=True)  # loaded once, before the forks


@cache
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def started_ticks(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat: clock ticks since boot. None when there is no such process."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None


def parent_of(pid: int) -> int | None:
    fields = stat_fields(pid)
    return int(fields[1]) if fields else None


def stat_fields(pid: int) -> list[str] | None:
    """The fields after the command, which may itself hold spaces and brackets: state first."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def refer(pid: int) -> ProcessRef:
    """A reference to a living process. Raises `ProcessLookupError`."""
    ticks = started_ticks(pid)
    if ticks is None:
        raise ProcessLookupError(pid)
    return ProcessRef(pid, ticks, boot_id())


def age_s(process: ProcessRef) -> float:
    """Seconds since the process was started, in steps of a clock tick (10 ms)."""
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return since_boot - process.started_ticks / os.sysconf("SC_CLK_TCK")


def is_alive(process: ProcessRef) -> bool:
    """Whether exactly this process runs (a zombie does not)."""
    return process.boot_id == boot_id() and started_ticks(process.pid) == process.started_ticks


def open_pidfd(process: ProcessRef) -> int | None:
    """A pidfd of exactly this process, or None when it is gone; the caller closes it."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if not is_alive(process):  # checked after opening: from here on the pidfd can't be fooled
        os.close(descriptor)
        return None
    return descriptor


def send(process: ProcessRef, number: signal.Signals) -> bool:
    """Signal exactly this process. False when it is gone."""
    descriptor = open_pidfd(process)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def exit_of_status(status: int) -> Exit:
    """The exit that a raw wait status stands for."""
    if os.WIFSIGNALED(status):
        return Exit(signal=os.WTERMSIG(status))
    return Exit(code=os.WEXITSTATUS(status))


def exit_of_child(pid: int) -> Exit:
    """How our child ended, which stays a zombie. Waits for its end."""
    told = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    told = cast("os.waitid_result", told)  # None is for those who don't wait
    is_exit = told.si_code == os.CLD_EXITED
    return Exit(code=told.si_status) if is_exit else Exit(signal=told.si_status)


def exit_of_pidfd(pidfd: int) -> Exit | None:
    """How a process ended that is not our child; None where the kernel does not say (before 6.15)
    or its parent has not reaped it yet."""
    info = bytearray(PIDFD_INFO_BYTES)
    struct.pack_into("Q", info, 0, PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not struct.unpack_from("Q", info)[0] & PIDFD_INFO_EXIT:
        return None
    return exit_of_status(struct.unpack_from("i", info, PIDFD_INFO_EXIT_CODE_AT)[0])


def exit_of_zombie(process: ProcessRef) -> Exit | None:
    """How a process ended that its parent has not reaped yet, by /proc/<pid>/stat (field 52, shown
    to whoever may trace it); None when it lives or is gone for good."""
    fields = stat_fields(process.pid)
    if not fields or fields[0] != "Z" or int(fields[19]) != process.started_ticks:
        return None
    return exit_of_status(int(fields[49]))


def told_exit(process: ProcessRef, pidfd: int | None) -> Exit | None:
    """How a process ended that is not our child: before or after its parent reaped it."""
    told = exit_of_pidfd(pidfd) if pidfd is not None else None
    return told or exit_of_zombie(process)


def kill_group(leader: int) -> None:
    """SIGKILL to what is left of a process group; nothing left is fine.

    The caller knows that the number is the leader's still: it lives, or is a child not reaped yet.
    """
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process: so strays are found and ended."""
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
