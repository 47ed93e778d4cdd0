"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
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


async def until(check: Callable[[], T], timeout_s: float = 30.0) -> T:
    """`eventually` for coroutines: others run meanwhile."""
    deadline = time.monotonic() + timeout_s
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s; last seen: {value!r}"
        await asyncio.sleep(POLL_S)
    return value


def eventually_nothing(
    check: Callable[[], Sequence[str]], timeout_s: float, pause_s: float = POLL_S
) -> None:
    """Until `check` finds nothing wrong. Fails the test with what it found last after `timeout_s`.
    `pause_s` is left between two looks: for checks that cost those they look at."""
    deadline = time.monotonic() + timeout_s
    while found := check():
        assert time.monotonic() < deadline, f"after {timeout_s} s:\n" + "\n".join(found)
        time.sleep(pause_s)
