"""What the checks of this process did since it was last written down [S8]."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from sync.services import TOTALS, Total
from sync.types import Receipt

Key = tuple[str, str]  # platform, worker id


class Tally:
    """Counts by platform and worker; bounded by how many there are of both."""

    def __init__(self) -> None:
        self._counts: dict[Key, Counter[str]] = {}
        self._last_success: dict[Key, datetime] = {}

    def add(self, key: Key, **counts: int) -> None:
        self._counts.setdefault(key, Counter()).update(counts)

    def stored(self, key: Key, receipt: Receipt) -> None:
        self.add(
            key,
            batches=1,
            new=receipt.new,
            changed=receipt.changed,
            same=receipt.same,
            refused=receipt.refused,
            size=receipt.size,
        )

    def synced(self, key: Key, now: datetime) -> None:
        """The platform has said that this is all."""
        self.add(key, syncs=1)
        self._last_success[key] = now

    def taken(self) -> list[Total]:
        """All of it; from now on counted from zero. What could not be written is put `back`."""
        taken = [
            Total(*key, tuple(counts[name] for name in TOTALS), self._last_success.get(key))
            for key, counts in sorted(self._counts.items())
        ]
        self._counts = {}
        return taken

    def back(self, totals: list[Total]) -> None:
        for one in totals:
            self.add((one.platform, one.worker_id), **dict(zip(TOTALS, one.counts, strict=True)))
