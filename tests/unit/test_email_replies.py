"""A reply as a mail, credentials, cursors, and the answers of an IMAP server. No server."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default

import pytest
from pydantic import ValidationError

from sync.errors import CursorInvalid
from sync.platforms.email.answers import Literal, mailbox, take_apart, uid_set
from sync.platforms.email.credentials import EmailCredentials, Server
from sync.platforms.email.headers import Address, Headers
from sync.platforms.email.letter import conversation_id
from sync.platforms.email.outgoing import MOST_REFERENCES, Outgoing, compose, message_id
from sync.platforms.email.place import Place
from sync.types import OutgoingReply
from tests.unit.test_email_letters import OURS, header

ME = Address("sales@example.org", "Sales, 销售")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def reply(text: str = "yes", key: str = "k1", conversation: str = "a@x") -> OutgoingReply:
    return OutgoingReply(key, text, NOON, conversation_id=conversation)


def answer(head: bytes, text: str = "yes", *, is_own: bool = False) -> Outgoing:
    to = Headers(head)
    return compose(reply(text, conversation=conversation_id(to)), to, ME, OURS, is_own=is_own)


class TestReply:
    def test_it_joins_the_thread(self) -> None:
        made = answer(
            header(
                From="Ann <ann@x.org>", Subject="Re: Order", Message_ID="<c@x>",
                References="<a@x> <b@x>",
            )
        )  # fmt: skip
        mail = message_from_bytes(made.data, policy=default)
        assert mail["In-Reply-To"] == "<c@x>"
        assert mail["References"] == "<a@x> <b@x> <c@x>"
        assert mail["Subject"] == "Re: Order"
        assert mail["From"] == '"Sales, 销售" <sales@example.org>'
        assert conversation_id(Headers(made.data)) == "a@x"

    def test_it_is_the_same_however_often_it_is_made(self) -> None:
        head = header(From="ann@x.org", Message_ID="<c@x>")
        assert answer(head) == answer(head)
        assert message_id(reply(), "a@b.c") != message_id(reply(key="k2"), "a@b.c")

    def test_long_threads_keep_their_first_reference(self) -> None:
        ids = " ".join(f"<m{n}@x>" for n in range(200))
        made = answer(header(From="ann@x.org", Message_ID="<z@x>", References=ids))
        found = Headers(made.data).ids("References")
        assert (found[0], found[-1], len(found)) == ("m0@x", "z@x", MOST_REFERENCES)

    def test_long_ids_stay_whole(self) -> None:
        own = "x" * 120 + "@x"
        found = Headers(answer(header(From="ann@x.org", Message_ID=f"<{own}>")).data)
        assert found.ids("In-Reply-To") == found.ids("References") == [own]

    def test_thread_without_ids_is_carried_on(self) -> None:
        head = header(From="ann@x.org", Subject="Order")
        assert conversation_id(Headers(answer(head).data)) == conversation_id(Headers(head))

    def test_all_who_take_part_receive_it_but_not_ourselves(self) -> None:
        head = header(
            From="ann@x.org", Reply_To="desk@x.org", To="Sales@example.org, bob@x.org", Cc="c@x.org"
        )
        assert answer(head).people == ("desk@x.org", "bob@x.org", "c@x.org")
        own = header(From="sales@example.org", To="ann@x.org", Message_ID="<o@x>")
        assert answer(own, is_own=True).people == ("ann@x.org",)

    def test_nobody_is_left(self) -> None:
        with pytest.raises(ValueError, match="nobody"):
            answer(header(From="sales@example.org", To="sales@example.org"))

    @pytest.mark.parametrize(
        "text", ["plain", "你好" * 500, "a\r\nb", "x" * 3000, "half \ud800", ".\n.", "From me", ""]
    )
    def test_any_text_is_carried(self, text: str) -> None:
        mail = message_from_bytes(answer(header(From="ann@x.org"), text).data, policy=default)
        expected = text.encode("utf-8", "replace").decode().replace("\r\n", "\n")
        assert str(mail.get_content()).replace("\r\n", "\n").rstrip("\n") == expected
        assert max(map(len, answer(header(From="ann@x.org"), text).data.split(b"\r\n"))) < 998

    def test_nothing_breaks_out_of_a_header(self) -> None:
        head = header(From="ann@x.org", Subject="=?utf-8?q?a=0D=0ABcc:_evil@x.org?=")
        found = Headers(answer(head).data)
        assert found.addresses("Bcc") == ()


class TestCredentials:
    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"smtp": "https://smtp.example.org"}, "smtp"),
            ({"smtp": "smtp.example.org"}, "smtp"),
            ({"smtp": "smtps://me:secret@smtp.example.org"}, "smtp"),
            ({"smtp": "smtp://h:99999999"}, "smtp"),
            ({"address": "sales"}, "address"),
            ({"aliases": ["sales"]}, "aliases"),
            ({"password": ""}, "password"),
            ({"pasword": "x"}, "pasword"),
        ],
    )
    def test_each_wrong_field_is_named(self, fields: dict[str, object], wrong: str) -> None:
        with pytest.raises(ValidationError) as caught:
            EmailCredentials.model_validate({"username": "a", "password": "b-secret", **fields})
        assert caught.value.errors()[0]["loc"][0] == wrong
        assert "b-secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("address", "server"),
        [
            ("imaps://h", Server("h", 993, is_tls=True)),
            ("imap://h:1143", Server("h", 1143, is_tls=False)),
            ("smtps://h/", Server("h", 465, is_tls=True)),
            ("smtp://h", Server("h", 587, is_tls=False)),
        ],
    )
    def test_addresses(self, address: str, server: Server) -> None:
        assert Server.parse(address) == server
        assert not server.may_be_plain


class TestPlace:
    def test_what_was_numbered_anew_is_read_since_a_day(self) -> None:
        place = Place(since="2026-01-01")
        assert Place.parse(place.text()) == place
        seen = place.seen("Sent", 7, 5).seen("INBOX", 7, 250)
        assert [(one.folder, one.since) for one in seen.owed] == [
            ("INBOX", "2026-01-01"), ("Sent", "2026-01-01"),
        ]  # fmt: skip
        later = seen.model_copy(update={"since": ""}).seen("INBOX", 7, 251)
        assert (later.owed[0].low, later.owed[0].since) == (251, "")

    def test_newest_first_then_what_is_owed(self) -> None:
        place = Place().seen("INBOX", 7, 250)
        assert [(one.low, one.high) for one in place.owed] == [(1, 250)]
        place = place.read_down_to(151).seen("INBOX", 7, 260)
        assert [(one.low, one.high) for one in place.owed] == [(251, 260), (1, 150)]
        place = place.read_down_to(251).read_down_to(1)
        assert place.owed == ()
        assert Place.parse(place.text()) == place
        assert place.seen("INBOX", 7, 260) is place

    def test_gap_keeps_its_name_while_it_shrinks(self) -> None:
        place = Place().seen("INBOX", 7, 10).read_down_to(1).seen("INBOX", 7, 500)
        later = place.read_down_to(400)
        assert place.gaps()[0].key == later.gaps()[0].key
        assert later.gaps()[0].newer_end == "INBOX, UID 399"

    def test_folder_that_was_numbered_anew(self) -> None:
        with pytest.raises(CursorInvalid, match="INBOX"):
            Place().seen("INBOX", 7, 10).seen("INBOX", 8, 10)


class TestAnswers:
    def test_fetch_with_a_literal(self) -> None:
        answer = take_apart([(b"* 12 FETCH (UID 7 BODY[1] {3}", b"a)b"), b")"], b"*")
        assert (answer.kind, answer.number) == ("FETCH", 12)
        assert answer.parsed() == ((b"UID", 7, b"BODY[1]", b"a)b"),)

    def test_answer_out_of_turn(self) -> None:
        with pytest.raises(ValueError, match="turn"):
            take_apart([b"M7 OK done"], b"M8")

    def test_sets_and_names(self) -> None:
        assert uid_set([3, 1, 2, 7, 9, 10]) == b"1:3,7,9:10"
        assert mailbox('Gesendete "Ü"') == b'"Gesendete \\"&ANw-\\""'

    def test_secrets_are_not_shown(self) -> None:
        assert "word" not in repr(Literal(b"a word"))
