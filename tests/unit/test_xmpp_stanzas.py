"""Archived stanzas → records. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import CursorInvalid, PlatformUnavailable
from sync.platforms.xmpp import platform
from sync.platforms.xmpp.place import Gap, Place, Position
from sync.platforms.xmpp.stanzas import (
    Archived,
    Owner,
    folded,
    message_id,
    own_part,
    read_archived,
)
from sync.platforms.xmpp.stream import address, is_loopback
from sync.types import AccountRef, Direction, MessageRecord, Refused

ROOM = "room@rooms.test"
OWNER = Owner("me@a.test", {"ana@a.test": "Ana"}, {ROOM: "Me"})


def archived(
    children: str,
    *,
    writer: str = "ana@a.test/home",
    archive: str = "",
    second: int = 0,
    stamp: str = "",
) -> Archived:
    stamp = stamp or f"2026-01-01T12:00:{second:02}Z"
    text = (
        f"<forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='{stamp}'/>"
        f"<message xmlns='jabber:client' from='{writer}' to='me@a.test' id='i{second}'>{children}"
        "</message></forwarded>"
    )
    return Archived(f"archive-{second}", archive, ET.fromstring(text))  # noqa: S314


def read(children: str, **more: object) -> MessageRecord:
    record = read_archived(archived(children, **more), OWNER)  # type: ignore[arg-type]
    assert isinstance(record, MessageRecord)
    return record


def test_message() -> None:
    found = read("<body>hello</body>")
    assert (found.external_id, found.conversation_id) == ("ana@a.test#i0", "ana@a.test")
    assert (found.sender_name, found.text, found.direction) == ("Ana", "hello", Direction.INBOUND)
    assert found.sent_at == datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_in_a_room_the_nick_says_who_wrote() -> None:
    found = read("<body>x</body>", writer=f"{ROOM}/Ana", archive=ROOM)
    assert (found.sender_name, found.conversation_id) == ("Ana", ROOM)
    mine = read("<body>x</body>", writer=f"{ROOM}/Me", archive=ROOM)
    assert mine.direction is Direction.OUTBOUND


@pytest.mark.parametrize("order", [1, -1])
def test_correction_and_retraction_in_any_order(order: int) -> None:
    original = read("<body>teh</body>")
    edit = "<body>the</body><replace xmlns='urn:xmpp:message-correct:0' id='i0'/>"
    gone = "<retract xmlns='urn:xmpp:message-retract:1' id='i0'/>"
    corrected = read(edit, second=5)
    (found,) = folded([original, corrected][::order]).values()
    assert (found.text, found.sent_at) == ("the", original.sent_at)
    (found,) = folded([original, corrected, read(gone, second=6)][::order]).values()
    assert (found.text, found.is_deleted, found.sent_at) == ("", True, original.sent_at)


def test_nobody_corrects_what_somebody_else_wrote() -> None:
    edit = "<body>forged</body><replace xmlns='urn:xmpp:message-correct:0' id='i0'/>"
    forged = read(edit, writer="eve@a.test/x", second=5)
    assert forged.external_id != read("<body>x</body>").external_id


@pytest.mark.parametrize(
    "children",
    ["", "<displayed xmlns='urn:xmpp:chat-markers:0' id='i'/>", "<composing xmlns='c'/>"],
)
def test_what_says_nothing_to_people_is_no_message(children: str) -> None:
    assert read_archived(archived(children), OWNER) is None


def test_encrypted_message_is_shown_as_such() -> None:
    found = read("<encrypted xmlns='eu.siacs.conversations.axolotl'/><body>no client</body>")
    assert (found.content_type, found.text) == ("encrypted", "\N{LOCK}")


def test_unreadable_one_is_refused_and_read_again() -> None:
    refused = read_archived(archived("<body>x</body>", stamp="soon"), OWNER)
    assert isinstance(refused, Refused)
    account = AccountRef(1, "xmpp", "me@a.test", "xmpp://a.test", {}, {})
    (again,) = platform.reread(account, "message", refused.raw)
    assert again == refused
    mended = refused.raw.replace("soon", "2026-01-01T12:00:00Z")
    (record,) = platform.reread(account, "message", mended)
    assert isinstance(record, MessageRecord)
    for nonsense in ("x", "{}", '{"id": "", "archive": "", "xml": "<"}'):
        (still,) = platform.reread(account, "message", nonsense)
        assert isinstance(still, Refused)


@given(st.text(), st.text())
def test_ids_come_back_out_of_external_ids(sender: str, id: str) -> None:
    assert (
        own_part(message_id(sender, id.encode(errors="replace").decode()))
        == id.encode(errors="replace").decode()
    )


def test_place_is_its_text() -> None:
    gap = Gap(newer="b", older="a", left=7)
    place = Place().moved("", Position(top="c", total=9, gaps=(gap,)))
    assert Place.parse(place.text()) == place
    assert (place.owed(), place.remaining()) == ("", 7)
    for nonsense in ("x", "[]", "{}", '{"archives": 7}'):
        with pytest.raises(CursorInvalid):
            Place.parse(nonsense)


def test_addresses() -> None:
    assert address("xmpps://a.test") == ("a.test", 5223, True)
    assert address("xmpp://127.0.0.1:5299") == ("127.0.0.1", 5299, False)
    assert is_loopback("::1")
    assert not is_loopback("a.test")
    for wrong in ("", "a.test", "https://a.test", "xmpp://a.test:port"):
        with pytest.raises(PlatformUnavailable):
            address(wrong)
