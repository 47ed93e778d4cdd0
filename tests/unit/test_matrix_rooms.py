"""What a room is called, how rows are cut into batches, and what a cursor says. Pure."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sync.batches import Bounds, slices
from sync.errors import CursorInvalid
from sync.platforms.matrix import rooms, wire
from sync.platforms.matrix.adapter import MatrixConnection
from sync.platforms.matrix.batches import cut
from sync.platforms.matrix.credentials import MatrixCredentials
from sync.platforms.matrix.place import Gap, Invitation, Place
from sync.platforms.matrix.reader import Reader
from sync.types import (
    AccountRef,
    ConversationRecord,
    Direction,
    LastKnown,
    MessageRecord,
    Refused,
)
from sync.weights import Row, weight

ROOM = "!room:a.org"
ME = "@me:a.org"


def state(kind: str, content: dict[str, Any], key: str = "") -> dict[str, Any]:
    return {"type": kind, "state_key": key, "content": content}


def member(user: str, name: str) -> dict[str, Any]:
    return state("m.room.member", {"displayname": name, "membership": "join"}, user)


def room(*events: object, heroes: list[str] | None = None, members: int | None = None) -> wire.Room:
    summary = {"m.heroes": heroes, "m.joined_member_count": members}
    return wire.Room.model_validate({"state": {"events": list(events)}, "summary": summary})


def title(whole: wire.Room) -> tuple[str, bool]:
    record = rooms.conversation(ROOM, rooms.facts(ROOM, whole, is_whole=True), ME)
    return record.title, record.is_group


NAME = state("m.room.name", {"name": "Orders"})
ALIAS = state("m.room.canonical_alias", {"alias": "#orders:a.org"})
ANA = member("@ana:a.org", "Ana")


class TestTitle:
    def test_name_before_alias_before_people(self) -> None:
        assert title(room(NAME, ALIAS, ANA, heroes=["@ana:a.org"], members=2)) == ("Orders", False)
        assert title(room(ALIAS, ANA, heroes=["@ana:a.org"], members=2)) == ("#orders:a.org", False)
        assert title(room(ANA, heroes=["@ana:a.org"], members=2)) == ("Ana", False)

    def test_empty_name_is_none(self) -> None:
        nameless = state("m.room.name", {"name": ""})
        assert title(room(nameless, ALIAS, members=2))[0] == "#orders:a.org"

    def test_many_people(self) -> None:
        heroes = [f"@{n}:a.org" for n in "abcde"]
        assert title(room(heroes=heroes, members=9)) == (", ".join(heroes) + " +3", True)

    def test_nobody_else(self) -> None:
        assert title(room(heroes=[], members=1)) == ("", False)

    def test_long_name_is_cut(self) -> None:
        assert len(title(room(state("m.room.name", {"name": "x" * 900})))[0]) == 500

    def test_malformed_name_is_refused(self) -> None:
        known = rooms.facts(ROOM, room(state("m.room.name", {"name": 7}), ALIAS), is_whole=True)
        assert [refused.kind for refused in known.refused] == ["conversation"]
        assert rooms.conversation(ROOM, known, ME).title == "#orders:a.org"

    def test_malformed_name_is_refused_as_the_same_with_each_answer(self) -> None:
        bad = state("m.room.name", {"name": 7})
        answers = [room(bad | {"unsigned": {"age": age}}) for age in (5, 5000)]
        one, again = (rooms.facts(ROOM, each, is_whole=True).refused for each in answers)
        assert one == again
        assert f'"room_id": "{ROOM}"' in one[0].raw


class TestFacts:
    def test_nothing_said_touches_nothing(self) -> None:
        assert not rooms.facts(ROOM, room(ANA), is_whole=False).touches_title

    @pytest.mark.parametrize("event", [NAME, ALIAS])
    def test_change_touches_the_title(self, event: dict[str, Any]) -> None:
        known = rooms.facts(ROOM, room(event), is_whole=False)
        assert known.touches_title
        assert known.needs_members, "nobody said how many there are"

    @pytest.mark.parametrize(
        ("whole", "needed"),
        [
            (room(NAME, members=2), False),
            (room(ALIAS, members=2), False),
            (room(ANA, heroes=["@ana:a.org"], members=2), False),
            (room(heroes=["@ana:a.org"], members=2), True),
            (room(members=2), True),
        ],
    )
    def test_members_are_asked_for_only_when_they_are_the_title(
        self, whole: wire.Room, needed: bool
    ) -> None:
        assert rooms.facts(ROOM, whole, is_whole=False).needs_members is needed

    def test_members_fill_in_what_was_not_said(self) -> None:
        known = rooms.facts(ROOM, room(members=None), is_whole=True)
        filled = rooms.with_members(known, {"@b:a.org": "Bo", ME: "Me", "@ana:a.org": "Ana"}, ME)
        assert rooms.conversation(ROOM, filled, ME) == ConversationRecord(ROOM, "Ana, Bo", True)

    def test_entered_room_shows_its_creation(self) -> None:
        assert rooms.is_new(room(state("m.room.create", {})))
        assert not rooms.is_new(room(NAME))


def message(number: int, text: str = "x") -> MessageRecord:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return MessageRecord(f"${number}", ROOM, "@a", "A", text, now, Direction.INBOUND)


class TestBatches:
    @given(st.lists(st.integers(0, 2000)), st.integers(1, 7), st.integers(500, 5000))
    def test_all_rows_in_order_within_the_limits(
        self, sizes: list[int], row_limit: int, byte_limit: int
    ) -> None:
        rows: list[Row] = [message(number, "x" * size) for number, size in enumerate(sizes)]
        pieces = list(slices(rows, Bounds(row_limit, byte_limit)))
        assert [row for piece in pieces for row in piece] == rows
        for piece in pieces:
            assert len(piece) <= row_limit
            assert len(piece) <= 1 or sum(map(weight, piece)) <= byte_limit

    def test_only_the_last_stands_for_the_answer(self) -> None:
        before, after = Place(since="s1"), Place(since="s2")
        batches = cut([message(n) for n in range(1100)], before, after)
        assert [batch.cursor for batch in batches] == [before.text()] * 2 + [after.text()]
        assert [batch.more for batch in batches] == [True, True, False]

    def test_first_answer_counts_as_nothing_until_it_is_whole(self) -> None:
        batches = cut([message(n) for n in range(600)], Place(), Place(since="s1"))
        assert batches[0].cursor == ""

    def test_more_while_history_is_owed(self) -> None:
        after = Place(since="s2", gaps=(Gap(room=ROOM, start="t1"),))
        (batch,) = cut([], Place(since="s1"), after)
        assert batch.more

    def test_nothing_new_is_no_batch(self) -> None:
        assert cut([], Place(since="s1"), Place(since="s1")) == []

    def test_refusals_are_kept_apart(self) -> None:
        rows: list[Row] = [ConversationRecord(ROOM, ""), Refused("message", "$1", "{}", "bad")]
        (batch,) = cut(rows, Place(), Place(since="s1"))
        assert ([*batch.records, *batch.refused]) == rows


class TestPlace:
    def test_round_trip(self) -> None:
        place = Place(
            since="s1",
            gaps=(Gap(room=ROOM, start="t1", stop="s0"), Gap(room=ROOM, start="t2")),
            invitations=(Invitation(room=ROOM, tries=2),),
        )
        assert Place.parse(place.text()) == place
        assert '"from":"t1","to":"s0"' in place.text()

    def test_empty(self) -> None:
        assert Place.parse("") == Place()
        assert Place().text() == ""

    @pytest.mark.parametrize("cursor", ["x", "[]", '{"since": 1}', '{"sinse": "s"}', '{"gaps": 0}'])
    def test_not_ours(self, cursor: str) -> None:
        with pytest.raises(CursorInvalid):
            Place.parse(cursor)


class TestCredentials:
    @pytest.mark.parametrize(
        "given",
        [
            {"username": "a", "password": "b"},
            {"access_token": "t"},
            {"username": "a", "access_token": "t"},
        ],
    )
    def test_good(self, given: dict[str, str]) -> None:
        assert MatrixCredentials.model_validate(given)

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"username": "a"},
            {"password": "hush-hush"},
            {"username": "", "password": "hush-hush"},
            {"username": "a", "password": "hush-hush", "access_token": "hush-hush"},
            {"username": "a", "password": "hush-hush", "extra": "hush-hush"},
            {"username": "a", "password": {"hush-hush": 1}},
        ],
    )
    def test_bad(self, given: dict[str, object]) -> None:
        with pytest.raises(ValidationError) as caught:
            MatrixCredentials.model_validate(given)
        assert "hush-hush" not in str(caught.value)


class Server:
    """Rooms with a hundred messages each, five on a page, a second between two of them."""

    token = ""

    async def sync(self, since: str, _wait_s: float) -> wire.SyncAnswer:
        assert since == ""
        timeline = {"events": [self._event(100)], "limited": True, "prev_batch": "100"}
        join = {room: {"timeline": timeline} for room in ("!a", "!b")}
        return wire.SyncAnswer.model_validate({"next_batch": "now", "rooms": {"join": join}})

    async def history(
        self, _room: str, start: str, _stop: str | None, _limit: int
    ) -> wire.MessagesAnswer:
        end = int(start) - 5
        events = [self._event(number) for number in range(int(start) - 1, max(end, 1) - 1, -1)]
        return wire.MessagesAnswer.model_validate(
            {"chunk": events, "end": str(end) if end > 1 else None, "start": start}
        )

    def _event(self, number: int) -> dict[str, Any]:
        return {
            "event_id": f"${number}", "type": "m.room.message", "sender": "@ann:a.org",
            "origin_server_ts": 1_700_000_000_000 + number * 1000,
            "content": {"msgtype": "m.text", "body": "hello"},
        }  # fmt: skip


def test_a_cursor_that_is_lost_is_read_anew_down_to_the_last_known_message() -> None:
    """Rooms that we know down to there, others whole."""
    server = Server()
    known = LastKnown({"!a": datetime.fromtimestamp(1_700_000_088, UTC)}, {})
    client: Any = server
    reader = Reader(client, ME)
    connection = MatrixConnection(AccountRef(1, "matrix", ME, "http://h", {}, {}), client)
    place = Place.parse(connection.cursor_after(known))
    assert Place.parse(place.text()) == place, "a crash before the first answer goes on so"
    place = asyncio.run(reader.news(place, 0)).place
    assert place.floors == {}
    floors = [(gap.room, gap.floor) for gap in place.gaps]
    assert floors == [("!a", 1_700_000_088_000), ("!b", None)]
    found = []
    while place.gaps:
        step = asyncio.run(reader.page(place))
        found += [row for row in step.rows if isinstance(row, MessageRecord)]
        place = step.place
    of_a = [int(one.external_id[1:]) for one in found if one.conversation_id == "!a"]
    assert (min(of_a), max(of_a)) == (80, 99), "one page of what is known, and no more"
    assert len([one for one in found if one.conversation_id == "!b"]) == 99
