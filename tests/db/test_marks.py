"""What was read here is told to platforms that take such marks [S10]."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import ClassVar

import pytest

from sync import platforms, store
from sync.errors import PlatformError, PlatformUnavailable, RateLimited, RequestRejected
from sync.models import Account, Conversation
from sync.store.marks import MOST_ATTEMPTS
from sync.types import AccountRef, Batch, Direction
from tests.db.engine_stage import check
from tests.db.sync_stage import (
    TinyConnection,
    TinyPlatform,
    lease,
    make_account,
    message,
    script,
)

pytestmark = pytest.mark.django_db

Mark = tuple[str, str]


class MarkingConnection(TinyConnection):
    platform: MarkingPlatform

    async def mark_read(self, conversation_id: str, message_id: str, sent_at: datetime) -> None:
        self.platform.asked.append((conversation_id, message_id))
        if self.platform.refuses:
            raise self.platform.refuses.pop(0)


class MarkingPlatform(TinyPlatform):
    marks_read: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Mark] = []
        self.refuses: list[Exception] = []

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[MarkingConnection]:
        yield MarkingConnection(self, account)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> MarkingPlatform:
    platform = MarkingPlatform()
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": platform})
    return platform


@pytest.fixture
def account(tiny: MarkingPlatform) -> Account:
    made = make_account(
        credentials={"user": "ann", "password": "p"}, session={"token": "t"}, epoch=3
    )
    ours = message(4, "c1", direction=Direction.OUTBOUND)
    found = (*(message(n, "c1") for n in (1, 2, 3)), ours, message(5, "c2"))
    store.ingest_batch(lease(made), 0, Batch("c", found))
    made.refresh_from_db()
    return made


def talk(external_id: str) -> Conversation:
    return Conversation.objects.get(external_id=external_id)


def test_a_mark_says_how_far_and_is_told_once(account: Account, tiny: MarkingPlatform) -> None:
    second = talk("c1").messages.get(external_id="m2")
    store.mark_read(talk("c1").pk, second.pk)
    check(account)
    assert tiny.asked == [("c1", "m2")]
    check(account)
    store.mark_all_read(account.pk)
    check(account)
    assert tiny.asked == [("c1", "m2"), ("c1", "m3"), ("c2", "m5")]
    assert store.untold(account.pk) == []


def test_the_mark_is_at_a_message_that_we_received(account: Account, tiny: MarkingPlatform) -> None:
    """WhatsApp and XMPP take none at our own."""
    store.mark_read(talk("c1").pk, talk("c1").messages.get(external_id="m4").pk)
    check(account)
    assert tiny.asked == [("c1", "m3")]


def test_only_the_newest_mark_of_a_conversation_is_told(
    account: Account, tiny: MarkingPlatform
) -> None:
    for name in ("m1", "m2", "m3"):
        store.mark_read(talk("c1").pk, talk("c1").messages.get(external_id=name).pk)
    store.mark_read(talk("c1").pk, talk("c1").messages.get(external_id="m1").pk)  # marks nothing
    check(account)
    assert tiny.asked == [("c1", "m3")]


def test_a_mark_names_a_message_that_is_still_there(
    account: Account, tiny: MarkingPlatform
) -> None:
    account.refresh_from_db()
    gone = (message(3, "c1", is_deleted=True), message(4, "c1", is_deleted=True))
    store.ingest_batch(lease(account), account.sequence, Batch(None, gone))
    store.mark_read(talk("c1").pk)
    check(account)
    assert tiny.asked == [("c1", "m2")]


def holds(tiny: MarkingPlatform, account: Account, number: int) -> bool:
    """Whether a check reads a message that the platform has got, and is none the worse for it."""
    tiny.on_read = script(Batch(f"c{number}", (message(number, "c3"),)))
    checked = check(account)
    assert (checked.error_count, checked.last_error) == (0, "")
    return Conversation.objects.filter(messages__external_id=f"m{number}").exists()


def test_a_mark_that_the_platform_does_not_answer_waits_and_the_account_is_read(
    account: Account, tiny: MarkingPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    store.mark_all_read()
    tiny.refuses = [PlatformUnavailable("down for maintenance")] * 2
    assert holds(tiny, account, 7)
    assert "down for maintenance" in caplog.text
    assert len(store.untold(account.pk)) == 2
    assert holds(tiny, account, 8)
    assert tiny.asked == [("c1", "m3"), ("c2", "m5")], "the one that failed holds back no other"
    assert holds(tiny, account, 9)
    assert tiny.asked[2:] == [("c1", "m3"), ("c2", "m5")]
    assert store.untold(account.pk) == []


def test_a_mark_that_is_never_answered_is_given_up(account: Account, tiny: MarkingPlatform) -> None:
    store.mark_read(talk("c2").pk)
    tiny.refuses = [PlatformUnavailable("always")] * 99
    for number in range(MOST_ATTEMPTS):
        assert len(store.untold(account.pk)) == 1
        assert holds(tiny, account, 10 + number)
    assert store.untold(account.pk) == []
    assert tiny.asked == [("c2", "m5")] * MOST_ATTEMPTS
    tiny.on_read = script(Batch("c40", (message(40, "c2"),)))
    check(account)
    assert store.mark_read(talk("c2").pk)
    assert talk("c2").untold_attempts == 0, "a newer one has all of its attempts"


def test_a_mark_that_hangs_ends(
    account: Account, tiny: MarkingPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(_connection: MarkingConnection, *_mark: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(MarkingConnection, "mark_read", hang)
    monkeypatch.setattr(sys.modules["sync.errands.marks"], "ANSWER_S", 0.01)
    store.mark_all_read()
    assert holds(tiny, account, 7)
    assert len(store.untold(account.pk)) == 2


@pytest.mark.parametrize(
    "error",
    [
        RequestRejected("no such room", 404),
        PlatformError("the mail server refuses UID STORE"),
        KeyError("an adapter's mistake"),
    ],
)
def test_a_mark_that_is_refused_is_not_told_again(
    account: Account,
    tiny: MarkingPlatform,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    store.mark_all_read()
    tiny.refuses = [error]
    assert holds(tiny, account, 7)
    assert tiny.asked == [("c1", "m3"), ("c2", "m5")]
    assert str(error) in caplog.text
    assert store.untold(account.pk) == []


def test_a_mark_waits_for_a_platform_that_asks_for_time(
    account: Account, tiny: MarkingPlatform
) -> None:
    store.mark_all_read()
    tiny.refuses = [RateLimited("slow down", 600)]
    tiny.on_read = script(Batch("c7", (message(7, "c3"),)))
    assert "slow down" in check(account).last_error
    assert talk("c3"), "it was read before"
    assert len(store.untold(account.pk)) == 2


def test_a_newer_mark_stays_when_an_older_one_was_told(account: Account) -> None:
    store.mark_read(talk("c1").pk, talk("c1").messages.get(external_id="m1").pk)
    (older,) = store.untold(account.pk)
    store.mark_read(talk("c1").pk)
    store.told(older)
    (newer,) = store.untold(account.pk)
    assert (older.message, newer.message) == ("m1", "m3")


def test_a_platform_that_takes_no_marks_gets_none(
    account: Account, tiny: MarkingPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MarkingPlatform, "marks_read", False)
    store.mark_all_read()
    assert store.untold(account.pk) == []
