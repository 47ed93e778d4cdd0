"""What consoles share of the feed: bounded, without a hole, made once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from sync.live import recent
from sync.live.expanding import News
from sync.live.recent import Recent, Told

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def told(*positions: int, rows: int = 0) -> list[Told]:
    some: Any = [None] * rows
    return [Told(News(position, 1, NOON, {}, conversations=some)) for position in positions]


class Counting:
    """A renderer that counts how often it is asked."""

    def __init__(self, size: int = 1) -> None:
        self.asked: list[int] = []
        self.size = size

    def __call__(self, news: News) -> bytes:
        self.asked.append(news.position)
        return str(news.position % 10).encode() * self.size


def read(kept: Recent, renderer: Counting, position: int) -> bytes:
    """All that follows a position, rendered first where it has to be."""
    found = b""
    while position != kept.end:
        for one in kept.after(position):
            one.said(renderer)
        chunk = kept.chunk(renderer, position)
        assert chunk is not None
        found, position = found + chunk[0], chunk[1]
    return found


def test_everything_after_a_position_in_order_and_once() -> None:
    kept, renderer = Recent(5, most=100), Counting()
    kept.add(told(6, 8, 9))
    assert (kept.start, kept.end) == (5, 9)
    assert [read(kept, renderer, at) for at in (5, 6, 7, 8, 9)] == [b"689", b"89", b"89", b"9", b""]
    assert renderer.asked == [6, 8, 9]


def test_what_was_not_rendered_yet_is_not_made_on_the_loop() -> None:
    kept, renderer = Recent(0, most=100), Counting()
    kept.add(told(1, 2))
    assert kept.chunk(renderer, 0) is None
    assert renderer.asked == []
    assert kept.chunk(renderer, 2) == (b"", 2)


def test_the_same_bytes_for_all_who_stand_at_one_place() -> None:
    kept, renderer = Recent(0, most=100), Counting()
    kept.add(told(1, 2))
    read(kept, renderer, 0)
    first, second = kept.chunk(renderer, 0), kept.chunk(renderer, 0)
    assert first is not None
    assert second is not None
    assert first[0] is second[0]
    kept.add(told(3))
    read(kept, renderer, 2)
    assert kept.chunk(renderer, 0) == (b"123", 3)


def test_the_oldest_make_room_by_entries_and_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Recent(0, most=3)
    kept.add(told(*range(1, 6)))
    assert (kept.start, kept.end) == (2, 5)
    monkeypatch.setattr(recent, "MOST_ROWS", 10)
    kept = Recent(0, most=100)
    kept.add(told(1, 2, 3, rows=4))
    assert (kept.start, kept.end) == (1, 3)
    kept.add(told(4, rows=50))  # too much by itself: nothing is kept, its readers ask the database
    assert (kept.start, kept.end) == (4, 4)


def test_a_chunk_is_bounded_in_entries_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, small = Recent(0, most=1000), Counting()
    kept.add(told(*range(1, 501)))
    assert len(kept.after(0)) == recent.MOST_AT_ONCE
    assert len(read(kept, small, 0)) == 500
    monkeypatch.setattr(recent, "MOST_BYTES", 100)
    large = Counting(size=60)
    for one in kept.after(0):
        one.said(large)
    chunk = kept.chunk(large, 0)
    assert chunk is not None
    assert (len(chunk[0]), chunk[1]) == (120, 2)
    assert len(read(kept, large, 0)) == 500 * 60
