"""Who must be looked at, and when. Deadlines, no ticking."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.utils import timezone

RESYNC = timedelta(seconds=30)


@dataclass
class Agenda:
    """`resync_at`: when everything is looked at."""

    resync_at: datetime = field(default_factory=timezone.now)
    _deadlines: list[tuple[datetime, str]] = field(default_factory=list)  # a heap
    _known: set[tuple[datetime, str]] = field(default_factory=set)  # the same

    def add(self, worker_id: str, at: datetime) -> None:
        if (at, worker_id) not in self._known:
            self._known.add((at, worker_id))
            heapq.heappush(self._deadlines, (at, worker_id))

    def next_at(self) -> datetime:
        return min([self.resync_at, *(at for at, _worker_id in self._deadlines[:1])])

    def due(self, now: datetime) -> set[str]:
        """Workers whose time has come, each once."""
        found = set()
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline = heapq.heappop(self._deadlines)
            self._known.discard(deadline)
            found.add(deadline[1])
        return found

    def takes_all(self, now: datetime) -> bool:
        """Whether everything is due; the next time then is `RESYNC` later."""
        if now < self.resync_at:
            return False
        self.resync_at = now + RESYNC
        return True

    def start_over(self, now: datetime) -> None:
        """Deadlines mean nothing any more: look at everything."""
        self._deadlines.clear()
        self._known.clear()
        self.resync_at = now
