"""Listing a room whose messages' times are out of order. No server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from sync.platforms.matrix import wire
from sync.platforms.matrix.client import MatrixClient
from sync.platforms.matrix.proof import list_room
from sync.types import Listed, Listing

NOW = datetime.now(UTC).replace(microsecond=0)
OLD = datetime(1971, 1, 1, tzinfo=UTC)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

Sent = tuple[str, datetime]


class Pages:
    """A homeserver's pages of one room, the newest first."""

    def __init__(self, *pages: Sequence[Sent]) -> None:
        self.pages = pages
        self.asked: list[int] = []

    async def history(self, _room: str, start: str, _stop: None, _limit: int) -> Any:
        number = int(start or 0)
        self.asked.append(number)
        events = [
            {
                "event_id": name,
                "type": "m.room.message",
                "sender": "@ana:a.org",
                "origin_server_ts": int(at.timestamp() * 1000),
                "content": {"msgtype": "m.text", "body": name},
            }
            for name, at in self.pages[number]
        ]
        end = str(number + 1) if number + 1 < len(self.pages) else None
        return wire.MessagesAnswer(chunk=tuple(events), end=end)


def page(number: int, *outliers: Sent) -> list[Sent]:
    """Ten messages of an hour that begins `number` hours ago."""
    begin = NOW - timedelta(hours=number)
    return [*outliers, *((f"${number}-{n}", begin - timedelta(minutes=n)) for n in range(10))]


def listed(server: Pages, since: datetime, before: Listed | None = None) -> list[Listing]:
    async def collect() -> list[Listing]:
        client = cast(MatrixClient, server)
        return [one async for one in list_room(client, "!r:a.org", "@me:a.org", since, before)]

    return asyncio.run(collect())


def names(listings: Sequence[Listing]) -> list[str]:
    return [id for one in listings for id in one.ids]


@pytest.mark.parametrize("since", [BEGINNING, NOW - timedelta(days=30)])
def test_one_old_time_ends_nothing(since: datetime) -> None:
    """A bridge that imports, a server whose clock is wrong."""
    server = Pages(page(1, ("$odd", OLD)), page(2), page(3))
    found = listed(server, since)
    expected = [name for each in server.pages for name, at in each if at >= since]
    assert sorted(names(found)) == sorted(expected)
    times = dict(sent for each in server.pages for sent in each)
    for one in found:
        assert all(one.since <= times[id] < one.until for id in one.ids)
    assert found[-1].since == since
    assert [one.until for one in found[1:]] == [one.since for one in found[:-1]], "without a hole"
    assert max(len(one.ids) for one in found) <= 11, "window by window"


def test_listing_ends_with_the_first_page_of_which_nothing_is_wanted() -> None:
    server = Pages(page(1), page(2), page(50), page(51))
    found = listed(server, NOW - timedelta(hours=24))
    assert sorted(names(found)) == sorted(name for each in (1, 2) for name, _at in page(each))
    assert server.asked == [0, 1, 2]


def test_empty_room_is_one_window() -> None:
    (only,) = listed(Pages([]), BEGINNING)
    assert (only.since, only.ids) == (BEGINNING, {})


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_cut_it_goes_on_with_what_was_held_back(cut: int) -> None:
    server = Pages(page(1, ("$odd", OLD)), page(2), page(3))
    whole = listed(server, BEGINNING)
    at = whole[cut - 1]
    assert len(at.place) < 200, "only what is out of order is kept"
    rest = listed(server, BEGINNING, Listed(at.since, at.place))
    assert names([*whole[:cut], *rest]) == names(whole)
