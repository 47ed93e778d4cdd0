"""What a deployment backend is [L14]: five verbs. Every backend passes one contract suite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from lifecycle.types import Alive, DeploymentType, Gone, Instance, WorkerSpec


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a backend knows: said first, and again after each lost connection."""

    alive: tuple[Alive, ...]
    gone: tuple[Gone, ...]  # ends that were not acknowledged yet


@dataclass(frozen=True, slots=True)
class Sampled:
    """CPU % and memory (MB) of running instances."""

    samples: tuple[tuple[Instance, float, float], ...]


BackendEvent = Snapshot | Alive | Gone | Sampled


class Backend(Protocol):
    """How workers of one deployment type (and host) are run. Knows instances, not configs."""

    deployment_type: ClassVar[DeploymentType]

    def start(self, spec: WorkerSpec) -> Alive:
        """Start an instance, or return the one that runs already.

        Raises `SpawnRefused` (can never work as configured), `BackendUnavailable` (try again).
        """

    def stop(self, instance: Instance, *, graceful: bool, timeout_s: float) -> bool:
        """Begin to stop, or hasten a stop that is under way. False: it does not run."""

    def watch(self) -> Iterator[Snapshot | Alive | Gone | Sampled]:
        """A snapshot, then what happens. Raises `BackendUnavailable` when the tie is cut."""

    def acknowledge(self, instance: Instance) -> None:
        """The end of this instance is committed: it need not be reported again."""

    def read_log(self, worker_id: str, stream: str, tail: int) -> list[str]:
        """The last `tail` lines of "stdout" or "stderr", oldest first.

        Raises `BackendUnavailable`.
        """
