"""What a worker may use: a cgroup v2 for each where this host permits it, CPU affinity elsewhere.

See docs/adr/0010-resource-limits.md. Whether a host permits it is found out by trying, once, when
the agent starts; nothing is tried that was not delegated to it.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import signal
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lifecycle.types import Exit, Instance, ProcessRef, WorkerSpec

log = logging.getLogger(__name__)

MB = 1024 * 1024
CPU_PERIOD_US = 100_000
LEAF = "agent"  # the child group of the agent itself: a group with limited children holds nobody
CONTROLLERS = ("cpu", "memory")
# Over max_memory_mb a worker is drained and replaced (`lifecycle.health`); the kernel steps in only
# where it grows faster than that takes.
HARD_LIMIT_SHARE = 1.25
CLOCK_SLACK_S = 1.0
SAID_BY_CGROUP = "probably out of memory: cgroup says so"
SAID_BY_KERNEL = "probably out of memory: kernel says so"


@dataclass(frozen=True, slots=True)
class Room:
    """The cgroup below which each worker gets its own; keepers stay outside and look on."""

    path: Path

    def group(self, instance: Instance) -> Path:
        return self.path / f"worker-{instance.worker_id}-{instance.generation}"

    def prepare(self, spec: WorkerSpec) -> None:
        """Make the group of a worker. Raises `OSError`."""
        group = self.group(spec.instance)
        group.mkdir(exist_ok=True)
        for name, value in settings_of(spec).items():
            (group / name).write_text(value)

    def enter(self, instance: Instance) -> None:
        """Move the calling process, and so all that it will fork. Raises `OSError`."""
        (self.group(instance) / "cgroup.procs").write_text("0")

    def killed_by_kernel(self, instance: Instance) -> bool:
        """Whether the kernel's OOM killer struck inside this worker's group."""
        try:
            text = (self.group(instance) / "memory.events").read_text()
        except OSError:
            return False
        return oom_kills(text) > 0

    def remove(self, instance: Instance) -> None:
        """Kill what is left inside and remove the group; what can't be removed stays."""
        group = self.group(instance)
        with suppress(OSError):
            (group / "cgroup.kill").write_text("1")
        with suppress(OSError):
            group.rmdir()

    def sweep(self) -> None:
        """Remove what keepers that were killed could not: groups that hold nobody any more."""
        for group in self.path.glob("worker-*"):
            with suppress(OSError):
                group.rmdir()


def settings_of(spec: WorkerSpec) -> dict[str, str]:
    """The files of a group and what is written into them; 0 in a spec is no limit."""
    found = {}
    if spec.max_memory_mb:
        found["memory.max"] = str(int(spec.max_memory_mb * HARD_LIMIT_SHARE) * MB)
    if spec.cpu_cores:
        quota = max(int(spec.cpu_cores * CPU_PERIOD_US), 1000)
        found["cpu.max"] = f"{quota} {CPU_PERIOD_US}"
    return found


def oom_kills(memory_events: str) -> int:
    """The count `oom_kill` of a memory.events file, or of /proc/vmstat."""
    _, _, rest = f"\n{memory_events}".partition("\noom_kill ")
    value = rest.partition("\n")[0].strip()
    return int(value) if value.isdigit() else 0


def cpus_for(worker_id: str, cores: float, available: Iterable[int]) -> set[int] | None:
    """The CPUs of a worker that may use `cores`; None where that is all there are.

    A run of neighbours that begins at a place made of its name: the same after each restart, and
    spread over the host without anybody to keep count.
    """
    cpus = sorted(available)
    wanted = math.ceil(cores)
    if not wanted or wanted >= len(cpus):
        return None
    first = zlib.crc32(worker_id.encode()) % len(cpus)
    return {cpus[(first + n) % len(cpus)] for n in range(wanted)}


def apply(spec: WorkerSpec, room: Room | None) -> str:
    """Put the calling process, a worker before its first step, under its limits.

    Returns what could not be done: a limit that can't be set is watched, and keeps nobody down.
    """
    try:
        if room:
            room.prepare(spec)
            room.enter(spec.instance)
        elif cpus := cpus_for(spec.instance.worker_id, spec.cpu_cores, os.sched_getaffinity(0)):
            os.sched_setaffinity(0, cpus)
    except OSError as error:
        return f"resource limits are watched, not enforced: {error}"
    return ""


# --- how it ended --------------------------------------------------------------------------------


class Witness:
    """Looks on from before a worker is forked, and knows whether the kernel ended it."""

    def __init__(self, instance: Instance, room: Room | None, *, from_start: bool = True) -> None:
        self.instance = instance
        self.room = room
        self._kills_before = _kills_on_host() if from_start else -1

    def explain(self, how: Exit, worker: ProcessRef) -> Exit:
        """The exit with a note where the kernel says that it ended the worker for its memory."""
        if how.signal != signal.SIGKILL or how.note:
            return how
        if self.room and self.room.killed_by_kernel(self.instance):
            return replace(how, note=SAID_BY_CGROUP)
        # The kernel's log is long: it is read only when there was an OOM kill at all.
        if _kills_on_host() != self._kills_before and worker.pid in victims(
            _kernel_log(), worker.started_ticks / os.sysconf("SC_CLK_TCK")
        ):
            return replace(how, note=SAID_BY_KERNEL)
        return how


def _kills_on_host() -> int:
    try:
        descriptor = os.open("/proc/vmstat", os.O_RDONLY)
    except OSError:
        return 0
    text = b""
    while piece := os.read(descriptor, 65536):
        text += piece
    os.close(descriptor)
    return oom_kills(text.decode())


def victims(records: Iterable[str], since_s: float) -> set[int]:
    """Pids that the OOM killer named in records of the kernel's log (Documentation/ABI/testing/
    dev-kmsg), `since_s` seconds after boot or later: an older one is of an earlier process."""
    found = set()
    for record in records:
        head, _, text = record.partition(";")
        fields = head.split(",")
        _, mark, rest = text.partition("Killed process ")
        pid = rest.partition(" ")[0].rstrip(",")
        is_kill = mark and "ut of memory" in text and pid.isdigit() and len(fields) > 2
        if is_kill and int(fields[2]) / 1e6 >= since_s - CLOCK_SLACK_S:
            found.add(int(pid))
    return found


def _kernel_log() -> list[str]:
    """What the kernel still remembers; nothing where it is not ours to read."""
    records: list[str] = []
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return records
    try:
        while True:
            try:
                records.append(os.read(descriptor, 8192).decode(errors="replace"))
            except OSError as error:
                if error.errno != errno.EPIPE:  # EPIPE: overwritten meanwhile, the next one is good
                    return records
    finally:
        os.close(descriptor)


# --- may this host limit at all ------------------------------------------------------------------


def find_room() -> Room | None:
    """The agent's own cgroup, made ready for limited children; None where that is not permitted.

    For this the agent moves into a child group first: below a group that holds processes cgroup v2
    limits nothing. Called before anything is forked.
    """
    own = _own_group()
    if own is None:
        log.info("no cgroup v2 here; CPU affinity is set, memory is watched")
        return None
    base = own.parent if own.name == LEAF else own
    try:
        _delegate(base)
    except OSError as error:
        log.info(
            "cgroup v2 is not ours to divide; CPU affinity is set, memory is watched: %s", error
        )
        return None
    room = Room(base)
    room.sweep()
    log.info("workers are limited by cgroup v2", extra={"room": str(base)})
    return room


def _own_group() -> Path | None:
    mounts = Path("/proc/self/mountinfo").read_text()
    groups = Path("/proc/self/cgroup").read_text()
    return own_group(mounts, groups)


def own_group(mounts: str, groups: str) -> Path | None:
    """Where a process finds its cgroup v2, from its mountinfo and cgroup files."""
    inside = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if inside and after.startswith("cgroup2 "):
            root, where = before.split()[3:5]
            if not Path(inside).is_relative_to(root):
                return None
            return Path(where) / Path(inside).relative_to(root)
    return None


def _delegate(base: Path) -> None:
    """Raises `OSError` when the controllers are not there, or not ours; then nothing has moved."""
    offered = (base / "cgroup.controllers").read_text().split()
    missing = [name for name in CONTROLLERS if name not in offered]
    if missing:
        raise OSError(errno.ENOTSUP, f"no controller for {' and '.join(missing)}")
    enabled = (base / "cgroup.subtree_control").read_text().split()
    if all(name in enabled for name in CONTROLLERS):
        return
    leaf = base / LEAF
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text("0")
    try:
        wanted = " ".join(f"+{name}" for name in CONTROLLERS)
        (base / "cgroup.subtree_control").write_text(wanted)
    except OSError:
        (base / "cgroup.procs").write_text("0")
        with suppress(OSError):
            leaf.rmdir()
        raise
