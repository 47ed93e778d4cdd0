"""How much one account may send, so that none takes the place of the others. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class Full(Exception):
    """All places are taken."""


@dataclass(slots=True)
class Places:
    """So many at a time."""

    most: int
    taken: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Raises `Full`."""
        if self.taken >= self.most:
            raise Full
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


@dataclass(slots=True)
class Bucket:
    """`burst` requests at once, and `rate` a second after that."""

    rate: float
    burst: float
    left: float
    at: float  # seconds of a steady clock

    def take(self, now: float) -> bool:
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class Throttle:
    """Which requests are let in: so many a second for each account, so many at once, and in all."""

    rate: float
    burst: float
    at_once: int  # under way, for one account
    in_all: int
    _buckets: dict[int, Bucket] = field(default_factory=dict)
    _under_way: dict[int, int] = field(default_factory=dict)
    _total: int = 0

    def enter(self, account_id: int, now: float) -> str:
        """ "" when it is let in (`leave` then ends it), "account" or "all" when that is full."""
        if self._total >= self.in_all:
            return "all"
        busy = self._under_way.get(account_id, 0)
        if busy >= self.at_once or not self._bucket(account_id, now).take(now):
            return "account"
        self._under_way[account_id] = busy + 1
        self._total += 1
        return ""

    def leave(self, account_id: int, *, counts: bool) -> None:
        """`counts` is false for a request that was not the account's: its rate is not charged."""
        busy = self._under_way.pop(account_id) - 1
        if busy:
            self._under_way[account_id] = busy
        self._total -= 1
        bucket = self._buckets.get(account_id)
        if bucket is not None and not counts:
            bucket.left += 1
            if bucket.left >= bucket.burst:  # as good as none: strangers leave nothing here
                del self._buckets[account_id]

    def _bucket(self, account_id: int, now: float) -> Bucket:
        bucket = self._buckets.get(account_id)
        if bucket is None:
            self._forget(now)
            bucket = self._buckets[account_id] = Bucket(self.rate, self.burst, self.burst, now)
        return bucket

    def _forget(self, now: float) -> None:
        """Whoever was quiet for long enough has a full bucket again: the same as none."""
        if len(self._buckets) < self.in_all:
            return
        full_after = self.burst / self.rate
        quiet = [
            one
            for one, bucket in self._buckets.items()
            if now - bucket.at > full_after and one not in self._under_way
        ]
        for one in quiet:
            del self._buckets[one]
