"""Timeline events → message records: the pure half of the Matrix adapter."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.platforms.matrix.events import ENCRYPTED_TEXT, member_names, read_again, read_timeline
from sync.types import Attachment, Direction, MessageRecord, Refused

ROOM = "!room:a.org"
ME = "@me:a.org"
ANA = "@ana:a.org"
NAMES = {ANA: "Ana", ME: "Me"}

Raw = dict[str, Any]


def event(**given: Any) -> Raw:
    return {
        "event_id": "$1",
        "type": "m.room.message",
        "sender": ANA,
        "origin_server_ts": 1_700_000_000_123,
        "content": {"msgtype": "m.text", "body": "hello"},
        **given,
    }


def edit(of: str, text: str, at: int = 1_700_000_001_000, **given: Any) -> Raw:
    new = {"msgtype": "m.text", "body": text}
    relation = {"rel_type": "m.replace", "event_id": of}
    content = {**new, "m.new_content": new, "m.relates_to": relation}
    return event(**{"event_id": f"$edit{at}", "origin_server_ts": at, "content": content, **given})


def redaction(of: str, **given: Any) -> Raw:
    return event(event_id="$redaction", type="m.room.redaction", content={"redacts": of}, **given)


def read_one(*raws: object) -> MessageRecord:
    (record,) = read_timeline(ROOM, raws, NAMES, ME).messages
    return record


def test_text_message() -> None:
    assert read_one(event()) == MessageRecord(
        external_id="$1",
        conversation_id=ROOM,
        sender_id=ANA,
        sender_name="Ana",
        text="hello",
        sent_at=datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC),
        direction=Direction.INBOUND,
    )


def test_own_message_is_outbound() -> None:
    assert read_one(event(sender=ME)).direction is Direction.OUTBOUND


def test_sender_without_a_name_is_shown_by_id() -> None:
    assert read_one(event(sender="@x:b.org")).sender_name == "@x:b.org"


@pytest.mark.parametrize(
    ("msgtype", "content_type"),
    [("m.notice", "notice"), ("m.emote", "emote"), ("org.poll", "org.poll"), ("", "text")],
)
def test_msgtype_is_the_content_type(msgtype: str, content_type: str) -> None:
    found = read_one(event(content={"msgtype": msgtype, "body": "b"}))
    assert (found.content_type, found.text) == (content_type, "b")


@pytest.mark.parametrize("content", [{"url": "mxc://a/b"}, {"file": {"url": "mxc://a/b"}}])
def test_file_is_a_reference(content: Raw) -> None:
    info = {"mimetype": "image/png", "size": 9}
    content = {"msgtype": "m.image", "body": "a.png", "info": info, **content}
    file = Attachment("mxc://a/b", "a.png", "image/png", 9)
    assert read_one(event(content=content)).attachments == (file,)


def test_sticker() -> None:
    found = read_one(event(type="m.sticker", content={"body": "cat", "url": "mxc://a/b"}))
    assert (found.content_type, found.text, len(found.attachments)) == ("sticker", "cat", 1)


def test_encrypted_message_is_shown_as_what_it_is() -> None:
    found = read_one(event(type="m.room.encrypted", content={"ciphertext": "x"}))
    assert (found.content_type, found.text) == ("encrypted", ENCRYPTED_TEXT)


@pytest.mark.parametrize("kind", ["m.room.member", "m.reaction", "m.room.topic", "org.unknown"])
def test_other_events_are_not_messages(kind: str) -> None:
    page = read_timeline(ROOM, [event(type=kind)], NAMES, ME)
    assert (page.messages, page.refused, page.elsewhere) == ((), (), {})


def test_an_event_that_is_refused_again_is_refused_as_the_same() -> None:
    """`age` is of the answer: else each reading would look like a newer version [S6]."""
    bad = event(content={"msgtype": "m.text"}) | {"sender": 7}
    answers = [bad | {"unsigned": {"age": age, "m.relations": {}}} for age in (5, 5000)]
    (one,), (again,) = (read_timeline(ROOM, [raw], NAMES, ME).refused for raw in answers)
    assert one == again
    assert "m.relations" in one.raw


class TestEdits:
    def test_edit_beside_its_original(self) -> None:
        for raws in ([event(), edit("$1", "new")], [edit("$1", "new"), event()]):
            found = read_one(*raws)
            assert (found.external_id, found.text) == ("$1", "new")
            assert found.edited_at == datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC)
            assert found.sent_at == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)

    @pytest.mark.parametrize("order", [1, -1])
    def test_latest_edit_counts(self, order: int) -> None:
        edits = [edit("$1", "older", 1_700_000_001_000), edit("$1", "newest", 1_700_000_002_000)]
        assert read_one(event(), *edits[::order]).text == "newest"

    def test_bundled_edit(self) -> None:
        bundled = edit("$1", "new")
        raw = event(unsigned={"m.relations": {"m.replace": bundled}})
        assert read_one(raw).text == "new"
        assert read_one(raw, edit("$1", "older", 1_700_000_000_500)).text == "new"

    @pytest.mark.parametrize("bundled", [7, {}, {"content": {}}, edit("$1", "") | {"content": {}}])
    def test_malformed_bundled_edit_leaves_the_message_as_it_was(self, bundled: object) -> None:
        raw = event(unsigned={"m.relations": {"m.replace": bundled}})
        assert read_one(raw).text == "hello"

    def test_edit_by_somebody_else_does_not_count(self) -> None:
        assert read_one(event(), edit("$1", "forged", sender="@eve:b.org")).text == "hello"

    def test_withdrawn_edit_does_not_count(self) -> None:
        withdrawn = edit("$1", "x", unsigned={"redacted_because": {}})
        assert read_one(event(), withdrawn).text == "hello"

    def test_original_elsewhere(self) -> None:
        raws = [edit("$0", "a", 1_700_000_002_000), edit("$0", "b", 1_700_000_001_000)]
        page = read_timeline(ROOM, raws, NAMES, ME)
        assert page.messages == ()
        assert page.elsewhere == {"$0": [raws[1], raws[0]]}

    def test_edit_without_new_content_is_refused(self) -> None:
        raw = edit("$1", "x")
        del raw["content"]["m.new_content"]
        page = read_timeline(ROOM, [event(), raw], NAMES, ME)
        assert [found.text for found in page.messages] == ["hello"]
        assert [refused.external_id for refused in page.refused] == [raw["event_id"]]

    def test_reply_is_no_edit(self) -> None:
        relation = {"m.in_reply_to": {"event_id": "$0"}}
        content = {"msgtype": "m.text", "body": "b", "m.relates_to": relation}
        assert read_one(event(content=content)).text == "b"


class TestRedactions:
    def test_redacted_event(self) -> None:
        found = read_one(event(content={}, unsigned={"redacted_because": {}}))
        assert (found.is_deleted, found.text) == (True, "")

    @pytest.mark.parametrize("change", [{}, {"redacts": "$1", "content": {}}])
    def test_redaction_beside_its_original(self, change: Raw) -> None:
        raw = {**redaction("$1"), **change}
        found = read_one(event(), raw)
        assert (found.is_deleted, found.text, found.attachments) == (True, "", ())

    def test_deleted_stays_deleted(self) -> None:
        late = edit("$1", "back again", 1_700_000_009_000)
        assert read_one(event(), redaction("$1"), late).is_deleted

    def test_original_elsewhere(self) -> None:
        raw = redaction("$0")
        assert read_timeline(ROOM, [raw], NAMES, ME).elsewhere == {"$0": [raw]}


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"content": {"msgtype": "m.text"}}, "body"),
            ({"content": {"msgtype": "m.text", "body": 7}}, "body"),
            ({"content": {"msgtype": "m.image", "body": "x", "url": {}}}, "url"),
            ({"content": "text"}, "content"),
            ({"origin_server_ts": "yesterday"}, "origin_server_ts"),
            ({"origin_server_ts": -1}, "origin_server_ts"),
            ({"origin_server_ts": 10**18}, "origin_server_ts"),
            ({"sender": None}, "sender"),
            ({"event_id": ""}, "event_id"),
            ({"event_id": "$" + "x" * 255}, "event_id"),
        ],
    )
    def test_neighbours_go_on(self, change: Raw, place: str) -> None:
        bad = event(**{"event_id": "$bad", **change})
        page = read_timeline(ROOM, [event(), bad, event(event_id="$2")], NAMES, ME)
        assert [found.external_id for found in page.messages] == ["$1", "$2"]
        (refused,) = page.refused
        assert json.loads(refused.raw) == {**bad, "room_id": ROOM}
        assert refused.error.startswith(f"{place}: ")

    @pytest.mark.parametrize("raw", [None, 7, "text", [], {}])
    def test_no_event_at_all(self, raw: object) -> None:
        (refused,) = read_timeline(ROOM, [raw], NAMES, ME).refused
        assert json.loads(refused.raw) == (raw if raw != {} else {"room_id": ROOM})

    def test_refused_event_is_read_again(self) -> None:
        bad = event(content={"msgtype": "m.text"})
        (refused,) = read_timeline(ROOM, [bad], NAMES, ME).refused
        assert read_again(json.loads(refused.raw), ME) == [refused]
        mended = {**json.loads(refused.raw), "content": {"msgtype": "m.text", "body": "mended"}}
        (found,) = read_again(mended, ME)
        assert isinstance(found, MessageRecord)
        assert (found.text, found.conversation_id) == ("mended", ROOM)

    @pytest.mark.parametrize(
        "raw", [7, {}, {"room_id": 7}, event(room_id=ROOM, type="m.room.topic"), edit("$0", "x")]
    )
    def test_what_is_no_message_stays_refused(self, raw: object) -> None:
        (refused,) = read_again(raw, ME)
        assert isinstance(refused, Refused)

    def test_what_a_database_can_not_hold_is_replaced(self) -> None:
        content = {"msgtype": "m.text", "body": "a\0b\ud800c😀"}
        assert read_one(event(content=content)).text == "a\ufffdb\ufffdc😀"

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        )
    )
    def test_nothing_is_lost_and_nothing_breaks(self, anything: Any) -> None:
        raws = [anything, event(content=anything), event(event_id="$2", unsigned=anything)]
        page = read_timeline(ROOM, raws, NAMES, ME)
        assert len(page.messages) + len(page.refused) + len(page.elsewhere) == len(raws)
        for found in page.messages:
            found.text.encode()


class TestNames:
    def test_last_one_counts(self) -> None:
        def member(name: object) -> Raw:
            content = {"displayname": name, "membership": "join"}
            return {"type": "m.room.member", "state_key": ANA, "content": content}

        assert member_names([member("A"), member("B")]) == {ANA: "B"}
        assert member_names([member(None)]) == {ANA: ANA}

    @pytest.mark.parametrize("raw", [None, {"state_key": 3}, {"type": "m.room.member"}])
    def test_malformed_ones_name_nobody(self, raw: object) -> None:
        assert member_names([raw]) == {}

    def test_long_names_are_cut(self) -> None:
        page = read_timeline(ROOM, [event()], {ANA: "x" * 900}, ME)
        assert len(page.messages[0].sender_name) == 500
