"""The restart policy: a pure function from an exit to a decision [L6].

The first restart after a stable run is immediate. Then `delay`, doubled each time up to `cap`, with
jitter. After `max_attempts` restarts without a stable run in between, the policy gives up until a
person acts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lifecycle.types import Exit, RestartMode


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    mode: RestartMode = RestartMode.ALWAYS
    delay: timedelta = timedelta(seconds=5)
    cap: timedelta = timedelta(minutes=5)
    max_attempts: int | None = 3  # None: never give up
    stable: timedelta = timedelta(seconds=60)
    jitter: float = 0.1  # share of the delay, added at most


@dataclass(frozen=True, slots=True)
class Restart:
    at: datetime
    attempts: int  # restarts since the last stable run, this one included


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: str


@dataclass(frozen=True, slots=True)
class LeaveStopped:
    reason: str


Decision = Restart | GiveUp | LeaveStopped


def decide(
    policy: RestartPolicy,
    *,
    attempts: int,
    uptime: timedelta,
    exit: Exit,
    now: datetime,
    random: Callable[[], float],
) -> Decision:
    """What follows a crash.

    `attempts` is the number of restarts since the last stable run, `uptime` how long this run
    lasted, `random` gives numbers in [0, 1).
    """
    if policy.mode is RestartMode.NEVER:
        return LeaveStopped(f"{exit}; automatic restart is off")
    if policy.mode is RestartMode.ON_FAILURE and exit.code == 0:
        return LeaveStopped(f"{exit}; restarted on failure only")
    stable = uptime >= policy.stable
    done = 0 if stable else attempts
    if policy.max_attempts is not None and done >= policy.max_attempts:
        return GiveUp(f"{exit}; gave up after {_times(done, 'restart')} without a stable run")
    wait = timedelta(0) if stable else backoff(policy, done, random())
    return Restart(at=now + wait, attempts=done + 1)


def backoff(policy: RestartPolicy, attempts: int, random: float) -> timedelta:
    """The wait before restart number `attempts + 1`: never longer than the cap, jitter included."""
    wait_s = policy.delay.total_seconds() * 2.0 ** min(attempts, 60) * (1 + policy.jitter * random)
    if wait_s >= policy.cap.total_seconds():
        return policy.cap
    return timedelta(seconds=wait_s)


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
