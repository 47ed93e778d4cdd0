"""Listing archives page by page: windows for each conversation, and what comes before its original.
No server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.platforms import listing
from sync.platforms.xmpp import proof
from sync.platforms.xmpp.place import OWN
from sync.platforms.xmpp.proof import version
from sync.platforms.xmpp.reader import Reader
from sync.platforms.xmpp.stanzas import folded
from sync.types import Direction, Done, Listed, Listing, MessageRecord, RecordKind

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
ROOM = "room@rooms.test"


def said(second: int, name: str = "", peer: str = "ana@a.test", **more: Any) -> MessageRecord:
    values: dict[str, Any] = {
        "external_id": f"{peer}#{name or second}",
        "conversation_id": peer,
        "sender_id": peer,
        "sender_name": "",
        "text": f"at {second}",
        "sent_at": START + timedelta(seconds=second),
        "direction": Direction.INBOUND,
    }
    return MessageRecord(**{**values, **more})


def corrected(second: int, name: str, peer: str = "ana@a.test") -> MessageRecord:
    return said(second, name, peer, edited_at=START + timedelta(seconds=second))


def retracted(second: int, name: str, peer: str = "ana@a.test") -> MessageRecord:
    return said(second, name, peer, text="", is_deleted=True)


class Archives:
    """What a reader makes of archives that hold these, the oldest first."""

    def __init__(self, page: int, held: Mapping[str, Sequence[MessageRecord]]) -> None:
        self.page, self.held = page, held
        self.archives = list(held)
        self.pages = 0

    async def backwards(
        self, archive: str, peer: str = "", *, start: str = "", end: str = ""
    ) -> AsyncIterator[list[MessageRecord]]:
        since = datetime.fromisoformat(start) if start else BEGINNING
        until = datetime.fromisoformat(end) if end else datetime.max.replace(tzinfo=UTC)
        found = [
            one
            for one in self.held[archive]
            if since <= one.sent_at <= until and peer in ("", one.conversation_id)
        ]
        for stop in range(len(found), 0, -self.page):
            self.pages += 1
            yield found[max(0, stop - self.page) : stop]

    def where(self, peer: str) -> tuple[str, str]:
        return (peer, "") if peer in self.archives else (OWN, peer)


def told(archives: Archives, done: Done | None = None) -> list[Listing]:
    async def collect() -> list[Listing]:
        reader = cast(Reader, archives)
        listings = proof.list_ids(reader, BEGINNING, done or {})
        return [one async for one in listings if one is not None]

    return asyncio.run(collect())


def live(records: Sequence[MessageRecord]) -> dict[str, MessageRecord]:
    return {id: one for id, one in folded(records).items() if not one.is_deleted}


def assert_whole(listings: Sequence[Listing], records: Sequence[MessageRecord]) -> None:
    """Of each conversation no hole, no overlap, the newest first, and everything in its window, as
    it is after all changes of it."""
    for peer in {one.scope for one in listings}:
        own = [one for one in listings if one.scope == peer]
        assert own[-1].since == BEGINNING
        for newer, older in pairwise(own):
            assert newer.since == older.until
    expected = live(records)
    for id, one in expected.items():
        windows = [each for each in listings if id in each.ids]
        assert any(
            each.scope == one.conversation_id and each.since <= one.sent_at < each.until
            for each in windows
        )
        assert {each.ids[id] for each in windows} == {version(one)}
    assert {id for each in listings for id in each.ids} == expected.keys()


@st.composite
def conversations(draw: st.DrawFn) -> list[MessageRecord]:
    """An archive of three people, where anything that is there may be changed later, and times are
    seconds."""
    records: list[MessageRecord] = []
    second = 0
    for number in range(draw(st.integers(0, 30))):
        second += draw(st.integers(0, 2))
        peer = draw(st.sampled_from(["ana@a.test", "bob@a.test", "eve@a.test"]))
        changed = str(draw(st.integers(0, number)))
        change = draw(st.sampled_from([None, None, corrected, retracted]))
        if change and f"{peer}#{changed}" in live(records):
            records.append(change(second, changed, peer))
        else:
            records.append(said(second, str(number), peer))
    return records


@settings(max_examples=60, deadline=None)
@given(conversations(), st.integers(1, 7), st.integers(1, 10))
def test_windows_are_whole(records: list[MessageRecord], page: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "WINDOW", window)
        assert_whole(told(Archives(page, {OWN: records})), records)


@settings(max_examples=40, deadline=None)
@given(conversations(), st.integers(1, 7), st.integers(1, 10), st.data())
def test_cut_anywhere_nothing_is_left_out(
    records: list[MessageRecord], page: int, window: int, data: st.DataObject
) -> None:
    in_room = [said(number, peer=ROOM) for number in range(7)]
    archives = Archives(page, {OWN: records, ROOM: in_room})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "WINDOW", window)
        listings = told(archives)
        kept: list[Listing] = []
        done: dict[tuple[RecordKind, str], Listed] = {}
        while listings:
            for one in listings[: data.draw(st.integers(1, len(listings)))]:
                reached = done.get((one.kind, one.scope))
                if reached is None or one.since < reached.since:
                    done[one.kind, one.scope] = Listed(one.since, one.place)
                    kept.append(one)
            if len(kept) > 500:
                raise AssertionError("it comes no further")
            listings = [
                one
                for one in told(archives, done)
                if (one.kind, one.scope) not in done or one.since < done[one.kind, one.scope].since
            ]
    expected = {**live(records), **live(in_room)}
    for peer in {one.conversation_id for one in expected.values()}:
        own = [one for one in kept if one.scope == peer]
        assert own[-1].since == BEGINNING
        assert all(newer.since == older.until for newer, older in pairwise(own))
    for id, record in expected.items():
        assert any(id in each.ids and each.since <= record.sent_at < each.until for each in kept)


def test_large_archive_is_told_as_it_is_read() -> None:
    records = [said(number) for number in range(20_000)]
    archives = Archives(250, {OWN: records})
    at: list[int] = []

    async def collect() -> None:
        async for one in proof.list_ids(cast(Reader, archives), BEGINNING):
            if one is None:
                at.append(archives.pages)
            else:
                assert len(one.ids) <= listing.WINDOW + archives.page

    asyncio.run(collect())
    assert at == list(range(1, 81)), "each page shows that it goes on"


def test_cut_it_asks_for_no_page_above_again() -> None:
    records = [said(number) for number in range(5000)]
    first = told(Archives(250, {OWN: records}))
    done = {(RecordKind.MESSAGE, first[-2].scope): Listed(first[-2].since, first[-2].place)}
    rest = Archives(250, {OWN: records})
    assert {id for one in told(rest, done) for id in one.ids} >= set(first[-1].ids)
    assert rest.pages <= 10
