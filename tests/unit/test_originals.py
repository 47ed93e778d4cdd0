"""Mails with one id: copies of one, and others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.merge import merge
from sync.originals import Fate, fate, is_alike, refusal
from sync.types import Attachment, Batch, Direction, MessageRecord

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEXT = "Dear Ann, the order leaves our house on Friday and should be with you on Monday."
FILE = Attachment("imap://h/INBOX;UIDVALIDITY=1/;UID=1/;SECTION=2", "a.pdf", "application/pdf", 9)
OURS = MessageRecord(
    external_id="a@x",
    conversation_id="a@x",
    sender_id="sales@example.org",
    sender_name="Sales",
    text=TEXT,
    sent_at=NOON,
    direction=Direction.OUTBOUND,
    attachments=(FILE,),
    is_immutable=True,
)


def other(**changed: Any) -> MessageRecord:
    return replace(OURS, **changed)


class TestFate:
    @pytest.mark.parametrize(
        "same",
        [
            other(),
            other(attachments=(replace(FILE, url="imap://h/Sent;UIDVALIDITY=1/;UID=7"),)),
            other(sent_at=NOON + timedelta(seconds=40)),
            other(text="", is_deleted=True),
        ],
    )
    def test_the_same_mail_is_written_as_ever(self, same: MessageRecord) -> None:
        assert fate(OURS, same) is Fate.WRITE

    @pytest.mark.parametrize(
        "copy",
        [
            other(text=f"{TEXT}\n--\nThis mail is confidential, and we mean it."),
            other(text=TEXT.replace(" ", "\n")),
            other(sender_id="list@lists.org", text=f"{TEXT}\n\nlist mailing list"),
            other(attachments=()),
        ],
    )
    def test_of_a_copy_by_another_way_the_first_stays(self, copy: MessageRecord) -> None:
        assert fate(OURS, copy) is Fate.KEEP

    @pytest.mark.parametrize(
        "another",
        [
            other(text="Send the money to DE89 3704 0044 0532 0130 00, please: we moved banks."),
            other(sender_id="eve@evil.org", sent_at=NOON - timedelta(days=1)),
            other(sender_id="eve@evil.org", text="Hello, is anybody there at all today?"),
            other(sent_at=NOON + timedelta(minutes=5)),
            other(text=""),
            other(text="7"),
        ],
    )
    def test_another_mail_is_refused(self, another: MessageRecord) -> None:
        """Of somebody who forges us, of somebody else, or of a device that numbers nothing."""
        assert fate(OURS, another) is Fate.REFUSE
        assert fate(another, OURS) is Fate.REFUSE

    def test_only_its_own_comes_back_from_the_deleted(self) -> None:
        gone = other(text="", is_deleted=True)
        assert fate(gone, OURS) is Fate.WRITE
        assert fate(gone, other(sender_id="eve@evil.org")) is Fate.REFUSE

    def test_texts_without_spaces(self) -> None:
        order = "您好，您的订单将于周五从我们的仓库发出，预计下周一送达。"
        assert is_alike(order, f"{order}\n本邮件为保密邮件。")
        assert not is_alike(order, "请把款项汇到我们的新账户，账号见附件，谢谢合作。")
        assert is_alike("", " \n")
        assert not is_alike("", order)


class TestRefusal:
    def test_it_names_both(self) -> None:
        found = refusal(OURS, other(sender_id="eve@evil.org", text="hello"))
        assert found.external_id.startswith("a@x ")
        assert "sales@example.org at 2026-03-01 12:00 UTC" in found.error
        assert "eve@evil.org" in found.raw

    def test_one_letter_for_each_that_is_another_wherever_it_lies(self) -> None:
        moved = replace(FILE, url="imap://elsewhere")
        letters = [
            refusal(OURS, other(text=text, attachments=(file,)))
            for text in ("one", "two")
            for file in (FILE, moved)
        ]
        assert len({letter.external_id for letter in letters}) == 2


class TestBatch:
    def test_the_first_of_a_batch_stays(self) -> None:
        copy, another = other(text=f"{TEXT} PS"), other(text="7")
        merged = merge(Batch("", (OURS, copy, another)))
        assert merged.messages == (OURS,)
        assert [letter.external_id[:4] for letter in merged.refused] == ["a@x "]
        assert (merged.read, merged.repeated) == (3, 1)
