"""What a deployment backend is [L14]: five verbs. Every backend passes one contract suite."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Protocol

from lifecycle.logs.lines import Missed, Piece, Place
from lifecycle.types import Alive, DeploymentType, Gone, Instance, WorkerSpec


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a backend knows: said first, and again after each lost connection."""

    alive: tuple[Alive, ...]
    gone: tuple[Gone, ...]  # ends that were not acknowledged yet
    code: str = ""  # what a new instance would run, see `Alive`; "": not known


@dataclass(frozen=True, slots=True)
class Sampled:
    """CPU % and memory (MB) of running instances."""

    samples: tuple[tuple[Instance, float, float], ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """From now on new instances run this code."""

    code: str


@dataclass(frozen=True, slots=True)
class Ending:
    """A process has ended; how is told in a moment, by `Gone`. May be left out."""

    instance: Instance


Meanwhile = Callable[[], None]
BackendEvent = Snapshot | Alive | Ending | Gone | Sampled | Loaded


@dataclass(frozen=True, slots=True)
class LogStart:
    """Where in a log to begin: right behind a place; else with the last lines; else with what is
    not older than a time, as far back as it is reasonable to look."""

    after: Place | None = None
    tail: int | None = None
    since: datetime | None = None


class LogSource(Protocol):
    """A log that is being read. `pieces` or `follow` is called, once; one that nobody reads lets
    go of its agent with its last reference."""

    start: Place
    whole: bool  # False: what was asked for goes further back than one looks

    def pieces(self) -> Iterator[Piece | Missed]:
        """Blocks; ends with the log. Raises `BackendUnavailable`."""

    def follow(self) -> AsyncGenerator[Piece | Missed | None]:
        """Pieces as they come; None: there is nothing more now. It comes again every few seconds
        as a sign of life. Raises `BackendUnavailable`."""


class Backend(Protocol):
    """How workers of one deployment type (and host) are run. Knows instances, not configs."""

    deployment_type: ClassVar[DeploymentType]

    def start(self, spec: WorkerSpec, meanwhile: Meanwhile | None = None) -> Alive:
        """Start an instance, or return the one that runs already; `meanwhile` is called while it
        starts, if it gets that far, and perhaps again.

        Raises `SpawnRefused` (can never work as configured), `BackendUnavailable` (try again).
        """

    def stop(self, instance: Instance, *, graceful: bool, timeout_s: float) -> bool:
        """Begin to stop, or hasten a stop that is under way. False: it does not run."""

    def watch(self) -> Iterator[BackendEvent]:
        """A snapshot, then what happens. Raises `BackendUnavailable` when the tie is cut."""

    def acknowledge(self, instance: Instance) -> None:
        """The end of this instance is committed: it need not be reported again."""

    def read_log(self, worker_id: str, stream: str, start: LogStart) -> LogSource:
        """What "stdout" or "stderr" was from a place on until now. Raises `BackendUnavailable`."""

    def follow_log(self, worker_id: str, stream: str, start: LogStart) -> LogSource:
        """The same, and what is printed from now on. Raises `BackendUnavailable`."""

    def logged_workers(self) -> dict[str, float]:
        """Workers that have log files, and when each wrote its last line (s of the epoch).

        Raises `BackendUnavailable`.
        """

    def remove_logs(self, worker_id: str) -> bool:
        """Remove a worker's log files; False: there were none. Safe to repeat.

        Raises `BackendUnavailable`, also while a process of that worker is known.
        """
