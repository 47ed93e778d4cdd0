"""Which worker holds which account [L15]: pure decisions, carried out by whoever owns the accounts.

Moves are minimal, whatever the strategy: it only chooses among workers for an account that needs a
home, so changing it moves nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol


class Strategy(StrEnum):
    """Among ready workers with room, which one takes the next account."""

    LEAST_LOADED = "least_loaded"  # the one that holds the fewest
    ROUND_ROBIN = "round_robin"  # each in turn
    STICKY = "sticky"  # the one that holds most of the account's platform


@dataclass(frozen=True, slots=True)
class Place:
    """An account and the worker that it has, by database ids."""

    account_id: int
    epoch: int
    worker: int | None
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Slot:
    """A worker as a place for accounts. `load` counts all that it holds, listed or not."""

    worker: int
    ready: bool
    returning: bool  # gone only just now and about to be back: its accounts stay
    max_accounts: int
    load: int
    platforms: Mapping[str, int] = field(default_factory=dict)  # what the load is made of


@dataclass(frozen=True, slots=True)
class Move:
    """Give the account to `worker`, or to nobody; void once its epoch has risen."""

    account_id: int
    epoch: int
    worker: int | None


def balance(
    accounts: Iterable[Place],
    workers: Sequence[Slot],
    strategy: Strategy = Strategy.LEAST_LOADED,
    last: int | None = None,
) -> list[Move]:
    """Homes for the accounts that need one, in the order of their ids.

    An account stays where it is while its worker is ready or returning. One whose worker is gone
    moves if there is room elsewhere and stays otherwise. One that is too many (`load` over
    `max_accounts`; the highest account ids go) moves, or waits without a worker. `last` is the
    worker that was given an account last, for round robin.
    """
    homeless, extra = _in_need(accounts, workers)
    room = [slot for slot in workers if slot.ready and slot.load < slot.max_accounts]
    chooser = _chooser(strategy, room, last)
    moves = []
    for account, must_go in [*((a, False) for a in homeless), *((a, True) for a in extra)]:
        home = chooser.take(account.platform)
        if home is not None or must_go:
            moves.append(Move(account.account_id, account.epoch, home))
    return moves


def _in_need(accounts: Iterable[Place], workers: Sequence[Slot]) -> tuple[list[Place], list[Place]]:
    """Accounts without a home, and those that are too many where they are; lower ids first."""
    by_id = {slot.worker: slot for slot in workers}
    surplus = {slot.worker: slot.load - slot.max_accounts for slot in workers if slot.ready}
    homeless, extra = [], []
    for account in sorted(accounts, key=lambda one: one.account_id, reverse=True):
        slot = by_id.get(account.worker) if account.worker is not None else None
        if slot is not None and slot.ready:
            if surplus[slot.worker] > 0:
                surplus[slot.worker] -= 1
                extra.append(account)
        elif slot is None or not slot.returning:
            homeless.append(account)
    return homeless[::-1], extra[::-1]


class _Chooser(Protocol):
    def take(self, platform: str) -> int | None:
        """The worker for the next account, its place now taken; None when all are full."""


def _chooser(strategy: Strategy, room: list[Slot], last: int | None) -> _Chooser:
    match strategy:
        case Strategy.ROUND_ROBIN:
            return _RoundRobin(room, last)
        case Strategy.STICKY:
            return _Sticky(room)
        case Strategy.LEAST_LOADED:
            return _LeastLoaded(room)


class _LeastLoaded:
    """The least loaded first, then the lower id."""

    def __init__(self, room: list[Slot]) -> None:
        self._heap = [(slot.load, slot.worker, slot.max_accounts) for slot in room]
        heapq.heapify(self._heap)

    def take(self, _platform: str) -> int | None:
        if not self._heap:
            return None
        load, worker, most = heapq.heappop(self._heap)
        if load + 1 < most:
            heapq.heappush(self._heap, (load + 1, worker, most))
        return worker


class _RoundRobin:
    """In the order of ids, from the one after `last` on; the full are left out."""

    def __init__(self, room: list[Slot], last: int | None) -> None:
        ordered = sorted(room, key=lambda slot: (last is None or slot.worker <= last, slot.worker))
        self._turns = [(slot.worker, slot.max_accounts - slot.load) for slot in ordered]
        self._at = 0

    def take(self, _platform: str) -> int | None:
        if not self._turns:
            return None
        self._at %= len(self._turns)
        worker, left = self._turns[self._at]
        if left > 1:
            self._turns[self._at] = (worker, left - 1)
            self._at += 1
        else:
            del self._turns[self._at]
        return worker


class _Sticky:
    """The worker that holds most of the platform, until it is full; then the least loaded one."""

    def __init__(self, room: list[Slot]) -> None:
        self._held = {slot.worker: dict(slot.platforms) for slot in room}
        self._load = {slot.worker: slot.load for slot in room}
        self._most = {slot.worker: slot.max_accounts for slot in room}
        self._favourites: dict[str, int] = {}

    def take(self, platform: str) -> int | None:
        if not self._load:
            return None
        worker = self._favourites.get(platform)
        if worker not in self._load:
            worker = min(self._load, key=lambda one: self._rank(one, platform))
            self._favourites[platform] = worker
        held = self._held[worker]
        held[platform] = held.get(platform, 0) + 1
        self._load[worker] += 1
        if self._load[worker] >= self._most[worker]:
            del self._load[worker]
        return worker

    def _rank(self, worker: int, platform: str) -> tuple[int, int, int]:
        return -self._held[worker].get(platform, 0), self._load[worker], worker


@dataclass
class Absences:
    """Since when each worker has not been ready: how long its accounts wait for it.

    Counted from when its absence was first seen, so that a worker that starts and crashes again and
    again does not keep them.
    """

    grace: timedelta
    _since: dict[int, datetime] = field(default_factory=dict)

    def see(self, ready: Mapping[int, bool], now: datetime) -> None:
        """All workers as they are now."""
        self._since = {
            worker: self._since.get(worker, now) for worker, is_so in ready.items() if not is_so
        }

    def ends_at(self, worker: int) -> datetime | None:
        """When patience with this worker ends; None: it is ready."""
        since = self._since.get(worker)
        return since + self.grace if since is not None else None
