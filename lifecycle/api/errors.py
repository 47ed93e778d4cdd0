"""How the errors of the lifecycle answer over HTTP."""

from __future__ import annotations

from typing import Any

from lifecycle.errors import (
    BackendError,
    BackendUnavailable,
    ImpossibleTransition,
    LifecycleError,
    LostRace,
    OutOfDate,
    Rejected,
    SpawnRefused,
    UnknownWorker,
)
from lifecycle.masking import masked

# The first kind that fits counts.
ANSWERS: dict[type[Exception], tuple[int, str]] = {
    UnknownWorker: (404, "unknown_worker"),
    Rejected: (409, "rejected"),
    OutOfDate: (409, "out_of_date"),
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


def conflict_body(error: OutOfDate) -> dict[str, Any]:
    """Both versions, as data. Secrets are masked for everybody: errors end up in logs."""
    found = error.conflict
    return {
        "yours": found.yours,
        "current": found.current,
        "changed_by": found.changed_by or None,
        "fields": {
            difference.field: {
                "yours": masked(difference.yours),
                "current": masked(difference.current),
            }
            for difference in found.differences
        },
    }
