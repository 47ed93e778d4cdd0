"""The errors of the lifecycle: one tree, each with the data that a caller needs."""

from __future__ import annotations

from lifecycle.conflict import Conflict


class LifecycleError(Exception):
    """Something about a worker could not be done."""


class ImpossibleTransition(LifecycleError):
    """The transition table has no such move."""

    def __init__(self, state: str, event: str) -> None:
        self.state, self.event = state, event
        super().__init__(f"a worker that is {state} can't take '{event}'")


class LostRace(LifecycleError):
    """The row is no longer in the state and generation that were expected: look again."""


class OutOfDate(LostRace):
    """Somebody else saved the config since it was read: both versions are told."""

    def __init__(self, message: str, conflict: Conflict) -> None:
        self.conflict = conflict
        super().__init__(message)


class UnknownWorker(LifecycleError):
    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(f"there is no worker '{worker_id}'")


class Rejected(LifecycleError):
    """A wish that can't be taken; the message tells the person why."""

    def __init__(self, worker_id: str, message: str) -> None:
        self.worker_id = worker_id
        super().__init__(message)


class BackendError(LifecycleError):
    """A backend could not do what it was asked."""


class BackendUnavailable(BackendError):
    """The backend can't be reached now; trying again later may help."""


class SpawnRefused(BackendError):
    """The worker can't be started as it is configured; trying again will not help."""
