"""Ids by windows of time. No platform."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.platforms.listing import WINDOW, Dated, progressive, windows
from sync.types import Listing, RecordKind

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=10)


def at(hour: int, name: str = "", version: str = "") -> Dated:
    return SINCE + timedelta(hours=hour), name or f"id{hour}", version


def assert_whole(listings: Sequence[Listing], found: Sequence[Dated]) -> None:
    """No hole, no overlap, the newest first, and everything in its window."""
    assert listings[0].until == UNTIL
    assert listings[-1].since == SINCE
    for newer, older in pairwise(listings):
        assert newer.since == older.until
    for when, name, version in found:
        (where,) = [one for one in listings if name in one.ids]
        assert where.since <= when < where.until
        assert where.ids[name] == version


@given(st.sets(st.integers(0, 239)), st.integers(1, 12))
def test_windows_are_whole(hours: set[int], repeats: int) -> None:
    found = [at(hour, f"{hour}/{n}", "v") for hour in hours for n in range(repeats)]
    assert_whole(list(windows(RecordKind.MESSAGE, found, SINCE, UNTIL)), found)


def test_windows_are_bounded() -> None:
    found = [at(n % 200, f"id{n}") for n in range(5 * WINDOW)]
    listings = list(windows(RecordKind.MESSAGE, found, SINCE, UNTIL))
    assert_whole(listings, found)
    assert len(listings) >= 5
    assert max(len(one.ids) for one in listings) < 2 * WINDOW


@pytest.mark.anyio
@pytest.mark.parametrize("page", [100, 1000, 100_000])
async def test_progressive_windows_are_whole(page: int) -> None:
    found = sorted((at(n % 200, f"id{n}") for n in range(4 * WINDOW)), reverse=True)

    async def pieces() -> AsyncIterator[tuple[Sequence[Dated], datetime]]:
        for start in range(0, len(found), page):
            some = found[start : start + page]
            yield some, some[-1][0] + timedelta(hours=1)

    told = progressive(RecordKind.MESSAGE, pieces(), SINCE, UNTIL)
    assert_whole([one async for one in told if one], found)


@pytest.mark.anyio
async def test_nothing_at_all_is_one_empty_window() -> None:
    async def pieces() -> AsyncIterator[tuple[Sequence[Dated], datetime]]:
        yield [], UNTIL

    told = progressive(RecordKind.MESSAGE, pieces(), SINCE, UNTIL)
    assert [one and one.ids async for one in told] == [None, {}]
