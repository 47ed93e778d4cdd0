"""Unread figures and totals equal a recount, whatever happens, and a difference is found [S10]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync import store
from sync.errors import CursorMoved
from sync.live.expanding import unread
from sync.models import Account, Conversation, FeedEntry, Message, SyncRun
from sync.services.counters import recount
from sync.types import Batch, Direction, MessageRecord, RunOutcome
from tests.db.sync_stage import NOON, check_counters, comment, lease, make_account, message, post
from tests.threads import alongside

ROOMS = ("c1", "c2", "c3")

Step = Callable[[Account], None]


def records(numbers: Sequence[tuple[int, int, bool, bool]]) -> tuple[MessageRecord, ...]:
    """(number, version, deleted, ours) as messages: the number decides where it belongs."""
    return tuple(
        message(
            number,
            ROOMS[number % 3],
            text=f"{number}, version {version}",
            direction=Direction.OUTBOUND if ours else Direction.INBOUND,
            edited_at=NOON + timedelta(minutes=version) if version else None,
            is_deleted=deleted,
        )
        for number, version, deleted, ours in numbers
    )


def write(numbers: Sequence[tuple[int, int, bool, bool]]) -> Step:
    def do(account: Account) -> None:
        while True:  # another writer may be quicker
            now = Account.objects.get(pk=account.pk)
            try:
                store.ingest_batch(lease(now), now.sequence, Batch(None, records(numbers)))
            except CursorMoved:
                continue
            return

    return do


def read_room(number: int) -> Step:
    def do(account: Account) -> None:
        rows = Conversation.objects.filter(account=account, external_id=ROOMS[number % 3])
        for row in rows:
            store.mark_read(row.pk)

    return do


def read_up_to(number: int) -> Step:
    def do(account: Account) -> None:
        for row in Message.objects.filter(account=account, external_id=f"m{number}"):
            store.mark_read(row.conversation_id, row.pk)

    return do


def read_all(account: Account) -> None:
    store.mark_all_read(account.pk)


numbers = st.integers(0, 25)
batches = st.lists(st.tuples(numbers, st.integers(0, 3), st.booleans(), st.booleans()), max_size=12)
steps = st.one_of(
    st.builds(write, batches),
    st.builds(write, batches),
    st.builds(read_room, numbers),
    st.builds(read_up_to, numbers),
    st.just(read_all),
)
quietly = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check_unread(account: Account) -> None:
    """Of conversation, account, platform and in total; and the command agrees."""
    check_counters(account)
    rows = Message.objects.filter(direction="inbound", is_read=False)
    figures = unread({account.pk})
    assert figures.total == rows.count()
    assert figures.platforms["tiny"] == rows.filter(account__platform="tiny").count()
    assert figures.accounts == {account.pk: rows.filter(account=account).count()}
    assert recount(repair=False) == []


@pytest.mark.django_db
@settings(quietly, max_examples=40)
@given(done=st.lists(steps, max_size=12))
def test_unread_equals_a_recount_after_anything(done: list[Step]) -> None:
    account = make_account()
    for step in done:
        step(account)
    check_unread(account)


@pytest.mark.django_db(transaction=True)
@settings(quietly, max_examples=12)
@given(
    ours=st.lists(steps, min_size=4, max_size=10), theirs=st.lists(steps, min_size=4, max_size=10)
)
def test_unread_equals_a_recount_after_two_at_once(ours: list[Step], theirs: list[Step]) -> None:
    account = make_account()

    def run(work: list[Step]) -> None:
        for step in work:
            step(account)

    with alongside(partial(run, ours), partial(run, theirs)):
        pass
    check_unread(account)


# --- a difference ------------------------------------------------------------------------------


@pytest.fixture
def account(db: None) -> Account:
    made = make_account()
    found = tuple(message(n, ROOMS[n % 3]) for n in range(9))
    store.ingest_batch(lease(made), 0, Batch("c", (*found, post(1), comment(1), comment(2))))
    return made


def spoil(account: Account) -> Conversation:
    talk = Conversation.objects.filter(account=account).earliest("pk")
    Conversation.objects.filter(pk=talk.pk).update(unread_count=7, messages_total=1)
    Account.objects.filter(pk=account.pk).update(unread_total=0, comments_total=5)
    return talk


def test_a_difference_is_repaired_and_reported_where_people_look(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    make_account()
    talk = spoil(account)
    found = recount()
    assert {(d.account_id, d.conversation_id, d.counter) for d in found} == {
        (account.pk, talk.pk, "unread"),
        (account.pk, talk.pk, "messages"),
        (account.pk, None, "unread"),
        (account.pk, None, "messages"),
        (account.pk, None, "comments"),
    }
    assert f"unread of conversation {talk.pk} said 7, there are 3" in caplog.text
    run = SyncRun.objects.get(outcome=RunOutcome.FAILED)
    assert "comments of the account said 5, there are 2" in run.error
    entry = FeedEntry.objects.latest("pk")
    assert entry.changes == {
        "conversation": {"changed": [talk.pk]},
        "account": {"changed": [account.pk]},
    }
    check_unread(account)
    assert recount() == []
    assert SyncRun.objects.filter(outcome=RunOutcome.FAILED).count() == 1


def test_by_hand_it_ends_with_1_when_something_was_wrong(account: Account) -> None:
    out = StringIO()
    call_command("recount", stdout=out)
    assert "every counter is right" in out.getvalue()
    talk = spoil(account)
    for arguments in (["--only-look"], ["--only-look"], []):
        out, err = StringIO(), StringIO()
        with pytest.raises(SystemExit) as ended:
            call_command("recount", *arguments, stdout=out, stderr=err)
        assert ended.value.code == 1
        assert f"account {account.pk}: unread of conversation {talk.pk} said 7" in out.getvalue()
        assert "counters were wrong" in err.getvalue()
    call_command("recount", stdout=StringIO())


def test_a_recount_of_many_conversations_goes_in_steps(
    account: Account, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr("sync.services.counters.AT_ONCE", 2)
    with django_assert_num_queries(4):  # three conversations, none left, the accounts
        assert recount() == []
