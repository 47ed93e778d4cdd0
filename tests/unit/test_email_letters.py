"""Mails of all kinds as messages: headers, charsets, structures, threads. No server."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.platforms.email.charsets import decoded, unbase64, unwrapped
from sync.platforms.email.headers import Headers, base_subject, plain, stored_id
from sync.platforms.email.letter import (
    TEXT_LIMIT,
    Letter,
    Location,
    conversation_id,
    external_id,
    read_letter,
    unflowed,
)
from sync.platforms.email.structure import Part, structure
from sync.types import Direction, MessageRecord

RECEIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)
HERE = Location(server="imap.example.org:993", user="a@b.c", folder="INBOX", validity=7, uid=3)
OURS = {"sales@example.org"}


def header(**fields: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items()]
    return "".join(lines).encode() + b"\r\n"


def letter(head: bytes = b"", text: bytes = b"hello\r\n", **part: Any) -> Letter:
    made = replace(Part("1", "text/plain", "7bit", len(text), is_text=True), **part)
    return Letter(
        location=HERE, received_at=RECEIVED, header=head, parts=(made,), contents={"1": text}
    )


def message(one: Letter, *, is_sent: bool = False) -> MessageRecord:
    return read_letter(one, OURS, is_sent=is_sent)[1]


class TestThreads:
    def test_first_reference_names_the_thread(self) -> None:
        head = header(References="<a@x>\r\n <b@x>", In_Reply_To="<b@x>", Message_ID="<c@x>")
        assert conversation_id(Headers(head)) == "a@x"

    def test_then_in_reply_to_then_its_own(self) -> None:
        assert conversation_id(Headers(header(In_Reply_To="<b@x>", Message_ID="<c@x>"))) == "b@x"
        assert conversation_id(Headers(header(Message_ID="<c@x>", Subject="Re: x"))) == "c@x"

    def test_order_of_arrival_does_not_matter(self) -> None:
        """Each mail names its thread by itself."""
        ids = [f"<m{n}@x>" for n in range(5)]
        mails = [
            header(Message_ID=own, **({"References": " ".join(ids[:n])} if n else {}))
            for n, own in enumerate(ids)
        ]
        random.Random(3).shuffle(mails)
        assert {conversation_id(Headers(mail)) for mail in mails} == {"m0@x"}

    def test_without_any_id_subject_and_writer_name_it(self) -> None:
        one = header(From="Ann <ann@x.org>", Subject="Order 7")
        again = header(From="ann@X.org", Subject="RE: AW: order 7")
        other = header(From="bob@x.org", Subject="Order 7")
        names = [conversation_id(Headers(each)) for each in (one, again, other)]
        assert names[0] == names[1] != names[2]

    def test_ids_that_no_column_holds_become_digests(self) -> None:
        for strange in ("x" * 401, "a\x00b", "ü@x", "a\ud800"):
            assert stored_id(strange).startswith("sha256-")
        assert stored_id("a@b") == "a@b"

    def test_mail_without_id_keeps_its_digest_in_any_folder(self) -> None:
        head = header(From="ann@x.org", Subject="no id")
        assert external_id(Headers(head), head) == external_id(Headers(head), head + b"\r\n")

    @pytest.mark.parametrize(
        ("subject", "base"),
        [
            ("Re: Re[2]: FWD: x", "x"),
            ("回复：转发: 订单", "订单"),
            ("AW: WG: Angebot", "Angebot"),
            ("Regarding: x", "Regarding: x"),
            ("re", "re"),
            ("Re:", ""),
        ],
    )
    def test_base_subject(self, subject: str, base: str) -> None:
        assert base_subject(subject) == base


class TestHeaders:
    @pytest.mark.parametrize(
        ("raw", "text"),
        [
            (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
            (b"=?utf-8?b?5L2g?= =?utf-8?b?5aW9?=", "你好"),
            (b"=?gb2312?b?xOO6ww==?=", "你好"),
            ("Grüße".encode(), "Grüße"),
            ("Grüße".encode("latin-1"), "Grüße"),
            (b"=?utf-8?q?broken=?=", "broken="),
            (b"=?nonsense?q?a=C3=BC?=", "aü"),
            (b"=?utf-8?b?!!!?=", None),
            (b"a =?utf-8?q?b?= c", "a b c"),
        ],
    )
    def test_any_header_is_readable(self, raw: bytes, text: str | None) -> None:
        found = Headers(b"Subject: " + raw + b"\r\n\r\n").text("subject")
        assert found == text if text is not None else isinstance(found, str)

    def test_addresses_with_commas_and_words(self) -> None:
        raw = '"Wang, =?utf-8?b?5p2O?=" <W@X.org>, =?utf-8?q?Fr=C3=A4nzi?= <f@x.org>'
        found = Headers(header(To=raw)).addresses("To")
        assert [(one.mailbox, one.name) for one in found] == [
            ("w@x.org", "Wang, 李"),
            ("f@x.org", "Fränzi"),
        ]

    def test_broken_addresses_give_what_they_have(self) -> None:
        for raw in ("ann at x, <bob@x.org", "undisclosed-recipients:;", "<>", ";;;@", "a b c@d.e"):
            assert all("@" in one.mailbox for one in Headers(header(To=raw)).addresses("To"))

    @pytest.mark.parametrize(
        "raw", ["", "yesterday", "Mon, 99 Foo 2026 25:99:99", "Thu, 1 Jan 1 00:00:00 +9999"]
    )
    def test_date_that_is_none_is_that_of_arrival(self, raw: str) -> None:
        assert message(letter(header(Date=raw))).sent_at <= RECEIVED

    def test_clock_that_goes_ahead(self) -> None:
        found = message(letter(header(Date="Fri, 01 Jan 2099 00:00:00 +0000")))
        assert found.sent_at == RECEIVED

    def test_date_without_zone_is_utc(self) -> None:
        found = message(letter(header(Date="Sun, 01 Feb 2026 10:00:00 -0000")))
        assert found.sent_at == datetime(2026, 2, 1, 10, tzinfo=UTC)

    @given(st.binary(max_size=300))
    def test_no_header_breaks_it(self, raw: bytes) -> None:
        head = b"Subject: " + raw + b"\r\nFrom: " + raw + b"\r\nDate: " + raw + b"\r\n\r\n"
        thread, found = read_letter(letter(head), OURS, is_sent=False)
        assert thread.external_id == found.conversation_id

    @given(st.text(max_size=100))
    def test_plain_is_total(self, text: str) -> None:
        assert isinstance(plain(text), str)


class TestText:
    @pytest.mark.parametrize(
        ("data", "charset", "text"),
        [
            ("你好".encode("gb18030"), "gb2312", "你好"),
            ("naïve".encode("cp1252"), "iso-8859-1", "naïve"),
            ("naïve".encode(), "us-ascii", "naïve"),
            ("naïve".encode("latin-1"), "us-ascii", "naïve"),
            ("こんにちは".encode("iso-2022-jp"), "iso-2022-jp", "こんにちは"),
            ("naïve".encode(), "x-made-up", "naïve"),
            (b"abc", "hex", "abc"),
            (b"a\xffb", "utf-8", "a\ufffdb"),
            ("Привет".encode("koi8-r"), '"KOI8-R"', "Привет"),
        ],
    )
    def test_charsets(self, data: bytes, charset: str, text: str) -> None:
        assert decoded(data, charset) == text

    @given(st.binary(), st.sampled_from(["utf-8", "gbk", "nope", "", "utf-16", "idna", "zlib"]))
    def test_any_bytes_are_text(self, data: bytes, charset: str) -> None:
        assert isinstance(decoded(data, charset), str)

    @given(st.binary())
    def test_any_bytes_are_base64(self, data: bytes) -> None:
        assert isinstance(unbase64(data), bytes)

    def test_base64_in_pieces_and_broken(self) -> None:
        assert unwrapped(b"aGVs\r\nbG8=d29y\r\nbGQ=", "BASE64") == b"helloworld"
        assert unwrapped(b"aGVsbG8!*=", "base64") == b"hello"

    def test_html_is_read_as_text(self) -> None:
        html = b"<html><head><style>p{}</style></head><body><p>Hello<br>you</p></body></html>"
        found = message(letter(text=html, media_type="text/html", size=len(html)))
        assert found.text == "Hello\nyou"

    def test_flowed_text(self) -> None:
        flowed = "one \ntwo\n> quoted \n> more\n-- \nname"
        assert unflowed(flowed, joins_words=False) == "one two\n> quoted more\n-- \nname"
        assert unflowed("你 \n好", joins_words=True) == "你好"

    def test_nothing_but_a_subject(self) -> None:
        assert message(letter(header(Subject="Call me"), b"")).text == "Call me"

    def test_too_much_text_is_refused_with_its_size(self) -> None:
        with pytest.raises(ValueError, match=str(TEXT_LIMIT + 1)):
            message(letter(size=TEXT_LIMIT + 1))

    def test_refused_mail_can_be_read_again(self) -> None:
        one = letter(header(Message_ID="<a@x>"), "ä".encode())
        refused = one.refused("why")
        assert (refused.kind, refused.external_id, refused.error) == ("message", "a@x", "why")
        assert Letter.model_validate_json(refused.raw) == one


class TestDirection:
    def test_from_one_of_our_addresses_or_among_the_sent(self) -> None:
        mine = letter(header(From="Sales <Sales@Example.org>"))
        theirs = letter(header(From="ann@x.org"))
        assert message(mine).direction is Direction.OUTBOUND
        assert message(theirs).direction is Direction.INBOUND
        assert message(theirs, is_sent=True).direction is Direction.OUTBOUND

    def test_group(self) -> None:
        two = header(From="ann@x.org", To="sales@example.org", Cc="bob@x.org")
        one = header(From="ann@x.org", To="sales@example.org")
        assert read_letter(letter(two), OURS, is_sent=False)[0].is_group
        assert not read_letter(letter(one), OURS, is_sent=False)[0].is_group


TEXT = (b"text", b"plain", (b"charset", b"utf-8"), None, None, b"7bit", 5, 1, None, None)
HTML = (b"text", b"html", (b"charset", b"utf-8"), None, None, b"base64", 9, 1, None, None)
EMPTY = (b"text", b"plain", None, None, None, b"7bit", 0, 0)
FILE = (
    *(b"application", b"pdf", None, None, None, b"base64", 78, None),
    (b"attachment", (b"filename*", b"utf-8''%E5%9B%BE.pdf")),
)
NOTE = (
    *(b"text", b"plain", (b"name", b"a.txt"), None, None, b"7bit", 5, 1, None),
    (b"attachment", (b"filename", b"a.txt")),
)
MAIL = (b"message", b"rfc822", None, None, None, b"7bit", 99, (b"envelope",), TEXT, 3, None, None)


class TestStructure:
    def test_plain_text_is_preferred_to_html(self) -> None:
        made = structure(((TEXT, HTML, b"alternative"), FILE, b"mixed"))
        assert [part.number for part in made.texts] == ["1.1"]
        assert [(f.number, f.name, f.file_size) for f in made.files] == [("2", "图.pdf", 57)]

    def test_html_where_the_plain_form_is_empty(self) -> None:
        made = structure((EMPTY, (HTML, FILE, b"related"), b"alternative"))
        assert [part.number for part in made.texts] == ["2.1"]
        assert [file.number for file in made.files] == ["2.2"]

    def test_text_after_a_file_is_text(self) -> None:
        made = structure((TEXT, FILE, TEXT, b"mixed"))
        assert [part.number for part in made.texts] == ["1", "3"]

    def test_attached_text_and_mail_are_files(self) -> None:
        made = structure((TEXT, NOTE, MAIL, b"mixed"))
        assert [part.number for part in made.texts] == ["1"]
        assert [file.media_type for file in made.files] == ["text/plain", "message/rfc822"]

    def test_encrypted_mail_is_told_as_such(self) -> None:
        made = structure((FILE, FILE, b"encrypted"))
        assert made.is_sealed

    def test_more_levels_than_anybody_writes(self) -> None:
        tree: tuple[object, ...] = TEXT
        for _level in range(3000):
            tree = (tree, b"mixed")
        with pytest.raises(ValueError, match="no sense"):
            structure(tree)

    @pytest.mark.parametrize("tree", [None, (), b"text", (b"text",), ((),)])
    def test_what_is_no_structure(self, tree: object) -> None:
        with pytest.raises(ValueError, match="mail"):
            structure(tree)
