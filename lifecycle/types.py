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


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. Both unset: nobody was there to see it."""

    code: int | None = None
    signal: int | None = None
    note: str = ""

    @property
    def signal_name(self) -> str:
        if self.signal is None:
            return ""
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"

    def __str__(self) -> str:
        """The exit as people say it."""
        if self.signal is not None:
            said = f"killed by {self.signal_name}"
        elif self.code is None:
            said = "exit unknown"
        elif self.code > 255:
            said = f"exit code {self.code} (0x{self.code:08X})"
        else:
            said = f"exit code {self.code}"
        return f"{said} ({self.note})" if self.note else said


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
