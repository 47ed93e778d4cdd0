"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.05


def eventually(check: Callable[[], T], timeout_s: float = 30.0) -> T:
    """The first true value of `check`. Fails the test with its last value after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s; last seen: {value!r}"
        time.sleep(POLL_S)
    return value
