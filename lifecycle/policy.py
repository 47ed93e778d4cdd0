"""The restart policy: a pure function from an exit to a decision [L6].

The first restart after a stable run is immediate. Then `delay`, doubled each time up to `cap`, with
jitter. After `max_attempts` restarts within one window and without a stable run in between, the
policy gives up until a person acts. A window begins with its first restart; when it is over, the
next crash begins another one and counts from 0 (Nomad's `restart.interval` does the same): a worker
that fails now and then is not given up for what happened long ago.

A run of less than a second is no run, whatever the settings: after the first of them in a window
the next has to wait for a floor, 10 ms and doubled each time up to 1 s. So no worker spins, also
with a delay of 0 and attempts without end; one that is killed now and then is back at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lifecycle.types import Exit, RestartMode

MOMENTARY = timedelta(seconds=1)
FIRST_FLOOR = timedelta(milliseconds=10)
LAST_FLOOR = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    mode: RestartMode = RestartMode.ALWAYS
    delay: timedelta = timedelta(seconds=5)
    cap: timedelta = timedelta(minutes=5)
    max_attempts: int | None = 3  # None: never give up
    stable: timedelta = timedelta(seconds=60)
    window: timedelta | None = timedelta(hours=1)  # None: attempts count until a stable run
    jitter: float = 0.1  # share of the delay, added at most


@dataclass(frozen=True, slots=True)
class Restart:
    at: datetime
    attempts: int  # restarts in this window, this one included
    since: datetime  # when the window began


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
    since: datetime | None,
    uptime: timedelta,
    exit: Exit,
    now: datetime,
    random: Callable[[], float],
) -> Decision:
    """What follows a crash.

    `attempts` is the number of restarts in the window that began at `since` (None: none yet),
    `uptime` how long this run lasted, `random` gives numbers in [0, 1).
    """
    if policy.mode is RestartMode.NEVER:
        return LeaveStopped(f"{exit}; automatic restart is off")
    if policy.mode is RestartMode.ON_FAILURE and exit.code == 0:
        return LeaveStopped(f"{exit}; restarted on failure only")
    is_stable = uptime >= max(policy.stable, MOMENTARY)
    if is_stable or since is None or is_over(policy, since, now):
        attempts, since = 0, now
    if policy.max_attempts is not None and attempts >= policy.max_attempts:
        return GiveUp(f"{exit}; gave up after {_times(attempts, 'restart')} {_within(policy)}")
    wait = timedelta(0) if is_stable else backoff(policy, attempts, random())
    wait = max(wait, floor(attempts, uptime))
    return Restart(at=now + wait, attempts=attempts + 1, since=since)


def floor(attempts: int, uptime: timedelta) -> timedelta:
    """The least wait before restart number `attempts + 1`, whatever the policy says."""
    if attempts == 0 or uptime >= MOMENTARY:
        return timedelta(0)
    return min(LAST_FLOOR, FIRST_FLOOR * (1 << min(attempts - 1, 10)))


def longest_wait(cap: timedelta) -> timedelta:
    """How far away a restart ever is under a policy with this cap."""
    return max(cap, LAST_FLOOR)


def is_over(policy: RestartPolicy, since: datetime, now: datetime) -> bool:
    """Whether the window that began at `since` is over. One that begins in the future (the clock
    was set back) is not."""
    return policy.window is not None and now - since > policy.window


def backoff(policy: RestartPolicy, attempts: int, random: float) -> timedelta:
    """The wait before restart number `attempts + 1`: never longer than the cap, jitter included."""
    wait_s = policy.delay.total_seconds() * 2.0 ** min(attempts, 60) * (1 + policy.jitter * random)
    if wait_s >= policy.cap.total_seconds():
        return policy.cap
    return timedelta(seconds=wait_s)


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _within(policy: RestartPolicy) -> str:
    if policy.window is None:
        return "without a stable run"
    return f"without a stable run within {policy.window.total_seconds():.0f} s"
