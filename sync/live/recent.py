"""The latest entries of the feed, in memory, ready to be sent: what all consoles share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from sync.live.expanding import News, Renderer

MOST_AT_ONCE = 200  # entries in one chunk


class Told:
    """One entry, and how it reads in each form that was asked for."""

    __slots__ = ("_said", "news")

    def __init__(self, news: News) -> None:
        self.news = news
        self._said: dict[Renderer, bytes] = {}

    def knows(self, renderer: Renderer) -> bool:
        return renderer in self._said

    def said(self, renderer: Renderer) -> bytes:
        """Renders it the first time: then not for the event loop."""
        if renderer not in self._said:
            self._said[renderer] = renderer(self.news)
        return self._said[renderer]


class Recent:
    """A bounded stretch of the feed, without a hole, from above `start` up to `end`."""

    def __init__(self, start: int, most: int) -> None:
        self.start = self.end = start
        self._told: deque[Told] = deque()
        self._most = most
        self._chunks: dict[tuple[Renderer, int], tuple[bytes, int]] = {}

    def add(self, told: Iterable[Told]) -> None:
        """What follows the last one; the oldest make room."""
        for one in told:
            self._told.append(one)
            self.end = one.news.position
            if len(self._told) > self._most:
                self.start = self._told.popleft().news.position
        self._chunks.clear()

    def after(self, position: int) -> list[Told]:
        """The next entries above a position that is not below `start`, bounded."""
        found: list[Told] = []
        for one in reversed(self._told):
            if one.news.position <= position:
                break
            found.append(one)
        return found[::-1][:MOST_AT_ONCE]

    def chunk(self, renderer: Renderer, position: int) -> tuple[bytes, int] | None:
        """The bytes that follow a position and where they lead; None if they must be rendered.

        Made once for all consoles that stand at the same place.
        """
        key = (renderer, position)
        if key not in self._chunks:
            told = self.after(position)
            if not all(one.knows(renderer) for one in told):
                return None
            end = told[-1].news.position if told else position
            self._chunks[key] = b"".join(one.said(renderer) for one in told), end
        return self._chunks[key]
