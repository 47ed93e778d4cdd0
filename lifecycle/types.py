"""The words of the lifecycle, as plain data. Imports the standard library only."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

WORKER_ID = re.compile(r"^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$")
# Addresses of their own below /api/v1/workers.
RESERVED_WORKER_IDS = frozenset({"batch", "rollouts", "stats"})
STOP_TIMEOUT_MS = 30_000  # of a stop for which nobody says how long it may take
SHUTDOWN_STOP_S = 8.0  # at most, for each worker, when the whole system ends [L13]


class State(StrEnum):
    """What a worker is, as a fact [L2]."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ERROR = "error"
    CRASHED = "crashed"


class Wish(StrEnum):
    """What people want a worker to be: `desired_state`."""

    RUNNING = "running"
    STOPPED = "stopped"


class Event(StrEnum):
    """What happens to a worker: the only reasons for which its state changes."""

    START = "start"  # the master is about to have it spawned
    READY = "ready"  # the worker says that it consumes
    STOP = "stop"  # somebody asked it to stop
    EXITED = "exited"  # its process is gone
    GIVE_UP = "give_up"  # the restart policy has had enough
    REFUSED = "refused"  # it can't be spawned as configured
    RESET = "reset"  # a person clears a crash or an error


# What a row of the lifecycle log tells of: a change of the state, or something else that happened.
EVENTS = (
    *Event,
    *("called_off", "condemned", "configured", "consuming", "created", "draining", "not_consuming"),
    *("port", "replaced", "retired", "succeeding", "wish"),
)


class DeploymentType(StrEnum):
    LOCAL = "local"
    SSH = "ssh"
    DOCKER = "docker"
    KUBERNETES = "kubernetes"


class Pool(StrEnum):
    """Celery pools that can be forked from a preloaded process (see docs/adr)."""

    THREADS = "threads"
    PREFORK = "prefork"
    SOLO = "solo"


class RestartMode(StrEnum):
    """After which exits the restart policy restarts."""

    ALWAYS = "always"
    ON_FAILURE = "on_failure"  # exit code 0 is left alone
    NEVER = "never"


class RolloutState(StrEnum):
    """Where a rolling restart stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"


class StepState(StrEnum):
    """Where one worker of a rolling restart stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# What exit codes mean by convention: of shells (POSIX 2.8.2), and NTSTATUS values, as which a
# process on Windows ends (MS-ERREF 2.3.1).
EXIT_MEANINGS = {
    126: "it can't be executed",
    127: "the command was not found",
    0xC0000005: "access violation",
    0xC0000017: "out of memory",
    0xC00000FD: "stack overflow",
    0xC0000135: "a library was not found",
    0xC000013A: "ended by Ctrl-C",
    0xC0000142: "the process failed to initialise",
    0xC0000409: "a buffer was overrun",
}
LARGEST_POSIX_CODE = 255
SIGNAL_OFFSET = 128  # a shell's, and a container's, code for a process that a signal ended


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. Both unset: nobody was there to see it."""

    code: int | None = None
    signal: int | None = None
    note: str = ""

    @property
    def signal_name(self) -> str:
        return "" if self.signal is None else signal_name(self.signal)

    def __str__(self) -> str:
        """The exit as people say it."""
        remarks = [self.note] if self.note else []
        if self.signal is not None:
            said = f"killed by {self.signal_name}"
        elif self.code is None:
            said = "exit unknown"
        else:
            said, remarks = f"exit code {self.code}", [*_remarks(self.code), *remarks]
        return f"{said} ({', '.join(remarks)})" if remarks else said


def _remarks(code: int) -> list[str]:
    """What there is to say of an exit code besides its number."""
    remarks = [f"0x{code:08X}"] if code > LARGEST_POSIX_CODE else []
    if code in EXIT_MEANINGS:
        return [*remarks, EXIT_MEANINGS[code]]
    number = code - SIGNAL_OFFSET
    if number in signal.valid_signals():
        return [f"{SIGNAL_OFFSET} + {number}: killed by {signal_name(number)}"]
    return remarks


@dataclass(frozen=True, slots=True)
class HomeRef:
    """One home of those that may share a database; host and path are for people."""

    identity: str
    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.host}:{self.path}"


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """One process, named so that a recycled pid is not mistaken for it."""

    pid: int
    started_ticks: int  # field 22 of /proc/<pid>/stat: clock ticks since boot
    boot_id: str


@dataclass(frozen=True, slots=True, order=True)
class Instance:
    """One spawn of one worker: the generation fences everything that it writes."""

    worker_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All that a backend needs to start a worker."""

    instance: Instance
    queues: tuple[str, ...]
    pool: Pool
    concurrency: int
    env: dict[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    working_directory: str = ""
    log_max_bytes: int = 10 * 1024 * 1024  # of one log file
    log_files: int = 5  # kept of each stream, the one that is written included
    max_memory_mb: int = 0  # 0: no limit
    cpu_cores: float = 0
    port: int | None = None  # of its own, for health and metrics
    bind: str = "127.0.0.1"  # where it listens on that
    replaces: int | None = None  # the generation that it may run beside until it is ready [L8]


@dataclass(frozen=True, slots=True)
class Alive:
    """A worker process that a backend sees now."""

    instance: Instance
    process: ProcessRef
    started_at: datetime
    code: str = ""  # fingerprint of the code that it runs; "": not known


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker process whose end nobody has acknowledged yet."""

    instance: Instance
    exit: Exit
    started_at: datetime
    ended_at: datetime

    @property
    def uptime(self) -> timedelta:
        return self.ended_at - self.started_at
