"""The latest entries of the feed, in memory, ready to be sent: what all consoles share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from sync.live.expanding import News, Renderer

MOST_AT_ONCE = 200  # entries in one chunk
# What one console may have in the server's buffers, times the consoles that read slowly.
MOST_BYTES = 256 * 1024
MOST_ROWS = 10_000  # conversations in all entries that are kept, about 5 KB each
MOST_CHUNKS = 50


class Told:
    """One entry, and how it reads in each form that was asked for."""

    __slots__ = ("_said", "news")

    def __init__(self, news: News) -> None:
        self.news = news
        self._said: dict[Renderer, bytes] = {}

    @property
    def rows(self) -> int:
        return len(self.news.conversations)

    def knows(self, renderer: Renderer) -> bool:
        return renderer in self._said

    def said(self, renderer: Renderer) -> bytes:
        """Renders it the first time: then not for the event loop."""
        if renderer not in self._said:
            self._said[renderer] = renderer(self.news)
        return self._said[renderer]


def chunk_of(told: Sequence[Told], renderer: Renderer, position: int) -> tuple[bytes, int]:
    """The bytes of the first entries, as many as go together, and the position where they lead."""
    said, size = [], 0
    for one in told:
        said.append(one.said(renderer))
        size, position = size + len(said[-1]), one.news.position
        if size >= MOST_BYTES:
            break
    return b"".join(said), position


class Recent:
    """A bounded stretch of the feed, without a hole, from above `start` up to `end`."""

    def __init__(self, start: int, most: int) -> None:
        self.start = self.end = start
        self._told: deque[Told] = deque()
        self._most, self._rows = most, 0
        self._chunks: dict[tuple[Renderer, int], tuple[bytes, int]] = {}

    def add(self, told: Iterable[Told]) -> None:
        """What follows the last one; the oldest make room."""
        for one in told:
            self._told.append(one)
            self._rows += one.rows
            self.end = one.news.position
            while len(self._told) > self._most or self._rows > MOST_ROWS:
                oldest = self._told.popleft()
                self._rows -= oldest.rows
                self.start = oldest.news.position
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
            if len(self._chunks) >= MOST_CHUNKS:
                self._chunks.clear()
            self._chunks[key] = chunk_of(told, renderer, position)
        return self._chunks[key]
