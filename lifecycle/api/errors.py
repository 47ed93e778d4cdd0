"""How the errors of the lifecycle answer over HTTP."""

from __future__ import annotations

from lifecycle.errors import (
    BackendError,
    BackendUnavailable,
    ImpossibleTransition,
    LifecycleError,
    LostRace,
    Rejected,
    SpawnRefused,
    UnknownWorker,
)

# The first kind that fits counts.
ANSWERS: dict[type[Exception], tuple[int, str]] = {
    UnknownWorker: (404, "unknown_worker"),
    Rejected: (409, "rejected"),
    LostRace: (409, "try_again"),
    ImpossibleTransition: (409, "impossible_transition"),
    SpawnRefused: (409, "spawn_refused"),
    BackendUnavailable: (503, "backend_unavailable"),
    BackendError: (502, "backend_error"),
    LifecycleError: (409, "rejected"),
}


def answer(error: Exception) -> tuple[int, str]:
    """The status and the code of an error of the lifecycle."""
    return next(said for kind, said in ANSWERS.items() if isinstance(error, kind))
