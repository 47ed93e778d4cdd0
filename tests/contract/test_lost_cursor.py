"""A lost cursor from end to end: engine, store and the fake platform [S3, S4]."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Sum

from sync import platforms, reading_on, store
from sync.models import Account, Comment, Gap, Message, SyncRun
from tests.contract.fake_stage import PASSWORD
from tests.db.engine_stage import check
from tests.db.sync_stage import make_account
from tests.fake import keyed
from tests.fake.process import FakeServer

pytestmark = pytest.mark.django_db

USER = "watched-lost"
DAY_MS = 86_400_000


@pytest.fixture
def account(fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr(platforms, "registry", lambda: {"fake-keyed": keyed.platform})
    fake_server.control("add", user=USER, password=PASSWORD, name="Sales")
    return make_account(
        platform="fake-keyed",
        identifier=USER,
        endpoint=f"http://127.0.0.1:{fake_server.port}",
        credentials={"user": USER, "password": PASSWORD},
        claimed_generation=1,
    )


def load(server: FakeServer, *records: dict[str, Any]) -> None:
    server.control("load", user=USER, records=list(records))


def said(name: str, at: int, thread: str = "talk", kind: str = "message") -> dict[str, Any]:
    who = {"sender": "friend", "name": "Ana", "own": False, "parent": "", "files": []}
    return {"type": kind, "id": name, "thread": thread, "text": name, "at": at, **who}


def read_since(sequence: int) -> int:
    """Records that were read by later batches."""
    found = SyncRun.objects.filter(sequence__gt=sequence).aggregate(Sum("read"))["read__sum"]
    return int(found or 0)


def test_nothing_is_lost_or_twice_wherever_the_reading_is_cut(
    account: Account, fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_780_000_000_000
    old = [said(f"old {n}", now - 30 * DAY_MS + n) for n in range(3000)]
    work = {"type": "post", "id": "work", "title": "A work", "text": "", "sender": USER}
    load(
        fake_server,
        {"type": "conversation", "id": "talk", "title": "Ana"},
        {**work, "name": "Sales", "at": now - 30 * DAY_MS},
        *old,
        *(said(f"comment {n}", now - 30 * DAY_MS + n, "work", "comment") for n in range(500)),
        said("last", now),
    )
    check(account)
    assert (account.messages_total, account.comments_total) == (3001, 500)
    before = account.sequence
    fake_server.control("forget", user=USER)
    new = [said(f"new {n}", now + n) for n in range(1, 700)]
    load(
        fake_server,
        said("late", now - DAY_MS),
        *new,
        {"type": "conversation", "id": "another", "title": "Bob"},
        said("elsewhere", now, "another"),
        said("below", now, "work", "comment"),
    )
    cuts = 0
    ingest = store.ingest_batch

    def cut_after_each(*given: Any) -> Any:
        nonlocal cuts
        receipt = ingest(*given)
        cuts += 1
        if receipt.read:
            raise ZeroDivisionError("killed behind the commit")
        return receipt

    with monkeypatch.context() as patch:
        patch.setattr(store, "ingest_batch", cut_after_each)
        for _ in range(20):
            check(account)
            if not account.error_count:
                break
            assert account.notice.startswith(reading_on.FROM_KNOWN), "until it is done"
    assert (account.error_count, account.notice) == (0, "")
    assert cuts >= 4, "a page brings 200"
    assert Message.objects.filter(account=account).count() == 3001 + 701
    assert Comment.objects.filter(account=account).count() == 501
    assert account.unread_total == 3001 + 701
    assert not Gap.objects.filter(account=account, closed_at=None).exists()
    assert read_since(before) < 800, "of 4,200"
