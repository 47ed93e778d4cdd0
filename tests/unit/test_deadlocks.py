"""A master that had to give way tries again; one without its database does not [L11]."""

from __future__ import annotations

import psycopg
import pytest
from django.db import OperationalError

from lifecycle.master.deadlocks import ATTEMPTS, despite_deadlocks


def wrapped(cause: psycopg.Error) -> OperationalError:
    error = OperationalError("as Django raises it")
    error.__cause__ = cause
    return error


def failing(*errors: Exception) -> list[Exception | None]:
    return [*errors, None]


def step_of(outcomes: list[Exception | None]) -> str:
    error = outcomes.pop(0)
    if error:
        raise error
    return "done"


def test_a_step_that_gave_way_is_taken_again() -> None:
    outcomes = failing(*[wrapped(psycopg.errors.DeadlockDetected())] * (ATTEMPTS - 1))
    assert despite_deadlocks(lambda: step_of(outcomes)) == "done"


@pytest.mark.parametrize(
    ("errors", "taken"),
    [
        ([wrapped(psycopg.errors.DeadlockDetected())] * ATTEMPTS, ATTEMPTS),
        ([wrapped(psycopg.errors.AdminShutdown())], 1),
        ([OperationalError("no connection")], 1),
    ],
)
def test_what_lasts_and_what_is_no_deadlock_is_raised(errors: list[Exception], taken: int) -> None:
    outcomes = failing(*errors)
    with pytest.raises(OperationalError):
        despite_deadlocks(lambda: step_of(outcomes))
    assert len(outcomes) == len(errors) + 1 - taken
