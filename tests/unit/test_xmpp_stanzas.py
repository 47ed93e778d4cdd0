"""Archived stanzas → records. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import CursorInvalid, LoginExpired, PlatformUnavailable
from sync.platforms.xmpp import platform
from sync.platforms.xmpp.place import Gap, Place, Position
from sync.platforms.xmpp.stanzas import (
    Archived,
    Invitation,
    Owner,
    folded,
    invitation,
    may_retract,
    message_id,
    own_part,
    read_archived,
    retracted_in_room,
)
from sync.platforms.xmpp.stream import address, is_loopback, no_login
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


@pytest.mark.parametrize(
    "announced",
    [
        "<retract xmlns='urn:xmpp:message-retract:1' id='a7'/>",
        "<retract xmlns='urn:xmpp:message-retract:1' id='a7'>"
        "<moderated xmlns='urn:xmpp:message-moderate:1' by='x'/></retract>",
        "<apply-to xmlns='urn:xmpp:fasten:0' id='a7'>"
        "<moderated xmlns='urn:xmpp:message-moderate:0' by='x'>"
        "<retract xmlns='urn:xmpp:message-retract:0'/></moderated></apply-to>",
    ],
)
def test_retraction_in_a_room_names_what_the_room_calls_it(announced: str) -> None:
    assert retracted_in_room(archived(announced, writer=ROOM, archive=ROOM)) == "a7"
    assert retracted_in_room(archived("<body>x</body>", writer=ROOM, archive=ROOM)) == ""


@pytest.mark.parametrize(
    ("writer", "may"), [(ROOM, True), (f"{ROOM}/Ana", True), (f"{ROOM}/Bob", False)]
)
def test_who_may_retract_in_a_room(writer: str, may: bool) -> None:
    original = read("<body>x</body>", writer=f"{ROOM}/Ana", archive=ROOM)
    assert may_retract(archived("", writer=writer, archive=ROOM), original) is may


@pytest.mark.parametrize(
    "left",
    [
        "<retracted xmlns='urn:xmpp:message-retract:1' stamp='2026-01-01T12:00:00Z'/>",
        "<moderated xmlns='urn:xmpp:message-moderate:0' by='x'>"
        "<retracted xmlns='urn:xmpp:message-retract:0'/></moderated>",
    ],
)
def test_what_archives_keep_of_a_retracted_message(left: str) -> None:
    found = read(left, writer=f"{ROOM}/Ana", archive=ROOM)
    assert (found.external_id, found.is_deleted, found.text) == (f"{ROOM}/Ana#i0", True, "")


@pytest.mark.parametrize(
    ("children", "writer", "expected"),
    [
        (
            "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='ana@a.test'/>"
            "<password>p</password></x><body>come</body>",
            ROOM,
            Invitation(ROOM, "p"),
        ),
        (
            f"<x xmlns='jabber:x:conference' jid='{ROOM}' password='p'/>",
            "ana@a.test",
            Invitation(ROOM, "p"),
        ),
        (f"<x xmlns='jabber:x:conference' jid='{ROOM}'/>", "me@a.test/phone", None),
        ("<x xmlns='jabber:x:conference'/><body>x</body>", "ana@a.test", None),
    ],
)
def test_invitations_to_rooms(children: str, writer: str, expected: Invitation | None) -> None:
    item = archived(children, writer=writer)
    assert invitation(item, OWNER) == expected
    assert expected is None or read_archived(item, OWNER) is None


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


def test_why_nobody_was_logged_in() -> None:
    """Only what speaks of the password makes a person change it."""
    wrong = no_login(["not-authorized", "not-authorized"], True)
    assert isinstance(wrong, LoginExpired)
    assert "not-authorized" in str(wrong)
    for later in (no_login(["temporary-auth-failure"], True), no_login([], True)):
        assert isinstance(later, PlatformUnavailable)
    assert "no encryption" in str(no_login([], False))
