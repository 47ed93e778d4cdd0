"""What a batch leaves beside its records: versions, gaps, refusals, the feed [S3, S6, S9, S10]."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from sync import feed, store
from sync.errors import StaleEpoch
from sync.merge import merge
from sync.models import (
    Account,
    Comment,
    Conversation,
    DeadLetter,
    FeedEntry,
    Gap,
    Message,
    Post,
    RecordVersion,
    SyncRun,
)
from sync.store.records import WRITERS
from sync.types import Batch, Lease, OpenGap, RawShape, Receipt, Record, RecordKind, Refused
from tests.db.sync_stage import (
    NOON,
    check_counters,
    comment,
    conversation,
    lease,
    make_account,
    message,
    post,
    rows,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    return make_account()


def put(account: Account, *records: Record, **fields: Any) -> Receipt:
    account.refresh_from_db()
    batch = Batch(**{"cursor": f"after-{account.sequence + 1}", "records": records, **fields})
    return store.ingest_batch(lease(account), account.sequence, batch)


def later(seconds: int) -> dict[str, Any]:
    return {"edited_at": NOON + timedelta(hours=1, seconds=seconds)}


# --- versions and tombstones ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "kind"),
    [
        (message(1), RecordKind.MESSAGE),
        (post(1), RecordKind.POST),
        (comment(1), RecordKind.COMMENT),
    ],
)
def test_what_was_edited_and_deleted_can_still_be_read(
    account: Account, original: Any, kind: RecordKind
) -> None:
    put(account, original)
    put(account, replace(original, text="second", **later(1)))
    put(account, replace(original, text="", is_deleted=True, **later(2)))
    versions = RecordVersion.objects.filter(kind=kind).order_by("id")
    assert [one.content["text"] for one in versions] == [original.text, "second"]
    assert [one.sequence for one in versions] == [2, 3]
    assert [one.content["is_deleted"] for one in versions] == [False, False]
    rows_of: dict[str, Any] = {"message": Message, "post": Post, "comment": Comment}
    row = rows_of[kind].objects.get()
    assert (row.pk, row.is_deleted) == (versions[0].record_id, True)
    check_counters(account)


@pytest.mark.parametrize("original", [message(1), post(1), comment(1)])
def test_the_order_in_which_versions_arrive_does_not_matter(
    account: Account, original: Any
) -> None:
    edited = replace(original, text="second", **later(1))
    deleted = replace(original, text="", is_deleted=True, **later(2))
    put(account, original, edited, deleted)
    other = make_account()
    for one in (deleted, original, edited):
        put(other, one)
    assert rows(other) == rows(account)


def test_a_new_time_alone_is_no_version(account: Account) -> None:
    put(account, message(1), post(1), comment(1))
    receipt = put(account, message(1, **later(1)), post(1, **later(1)), comment(1, **later(1)))
    assert receipt.changed == 3
    assert not RecordVersion.objects.exists()


def test_what_was_fetched_is_how_it_is_now(account: Account) -> None:
    gone = comment(1, is_deleted=True)
    put(account, gone)
    assert put(account, comment(1)).same == 1, "an older page does not bring it back"
    receipt = put(account, comment(1), cursor=None, fetched=True)
    assert receipt.changed == 1
    assert not Comment.objects.get().is_deleted


# --- what is written beside the reading -------------------------------------------------------


def test_without_a_cursor_the_account_stays_where_it_is(account: Account) -> None:
    put(account, message(1))
    put(account, message(2), cursor=None)
    account.refresh_from_db()
    assert (account.cursor, account.sequence) == ("after-1", 2)


def test_what_belongs_together_is_committed_together(account: Account) -> None:
    seen: list[Receipt] = []
    put(account, message(1))
    receipt = store.ingest_batch(lease(account), 1, Batch(None, (message(2),)), within=seen.append)
    assert seen == [receipt]

    def refuse(_receipt: Receipt) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        store.ingest_batch(lease(account), 2, Batch(None, (message(3),)), within=refuse)
    assert set(Message.objects.values_list("external_id", flat=True)) == {"m1", "m2"}
    with pytest.raises(StaleEpoch):
        store.ingest_batch(Lease(account.pk, 99), 2, Batch(None), within=seen.append)
    store.ingest_batch(lease(account), 2, Batch(None), within=seen.append)
    assert len(seen) == 2, "also when there was nothing to write"


# --- bounds -----------------------------------------------------------------------------------


def test_a_large_batch_is_written_in_bounded_pieces(account: Account, settings: Any) -> None:
    settings.MUSTER_BATCH_ROWS = 10
    receipt = put(account, *(message(n) for n in range(25)), remaining=7)
    assert (receipt.read, receipt.new, receipt.sequence) == (25, 25, 3)
    runs = SyncRun.objects.order_by("sequence")
    assert [run.read for run in runs] == [10, 10, 5]
    assert sum(run.size for run in runs) == receipt.size > 25 * 100
    account.refresh_from_db()
    assert (account.cursor, account.sequence, account.backlog) == ("after-1", 3, 7)


def test_killed_between_the_pieces_it_is_read_again(account: Account, settings: Any) -> None:
    settings.MUSTER_BATCH_ROWS = 10
    records = [message(n) for n in range(25)]

    def die(_receipt: Receipt) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.ingest_batch(lease(account), 0, Batch("end", tuple(records)), within=die)
    account.refresh_from_db()
    assert (account.cursor, account.sequence) == ("", 2)
    receipt = put(account, *records)
    assert (receipt.new, receipt.same) == (5, 20)
    check_counters(account)


def test_an_oversize_record_is_a_dead_letter_with_its_size(account: Account, settings: Any) -> None:
    settings.MUSTER_BATCH_BYTES = 4096
    large = message(2, text="大" * 4096)
    receipt = put(account, message(1), large, message(3))
    assert (receipt.new, receipt.refused) == (2, 1)
    letter = DeadLetter.objects.get()
    assert letter.shape == RawShape.RECORD
    assert letter.raw["text"] == large.text
    assert letter.size == len(json.dumps(letter.raw).encode())
    assert "at most 4,096" in letter.error
    assert put(account, large).refused == 1
    assert DeadLetter.objects.count() == 1, "the same refusal is one letter"


def test_refusals_without_an_id_are_told_apart_by_what_they_hold(account: Account) -> None:
    one, other = (Refused("history", "", json.dumps({"n": n}), "unreadable") for n in (1, 2))
    for _ in range(2):
        put(account, refused=(one, other, one))
    assert DeadLetter.objects.count() == 2


def _refused(text: str) -> Refused:
    return Refused("message", "m1", json.dumps({"body": text}), f"no reading for {text}")


@pytest.mark.parametrize("state", ["open", "replayed", "discarded"])
def test_a_newer_version_that_is_refused_opens_the_letter_anew(
    account: Account, state: str
) -> None:
    """Else nobody is told of it, an audit claims completeness, and a replay stores the old one."""
    put(account, refused=(_refused("old"),))
    DeadLetter.objects.update(
        state=state, resolved_by="ann", replays=2, fixed={"kind": "message"}, created_at=NOON
    )
    put(account, refused=(_refused("old but read again"), _refused("newer")))
    letter = DeadLetter.objects.get()
    assert (letter.state, letter.resolved_at, letter.resolved_by) == ("open", None, "")
    assert (dict(letter.raw), letter.error) == ({"body": "newer"}, "no reading for newer")
    assert (letter.fixed, letter.replays) == (None, 2)
    assert letter.size == len(json.dumps({"body": "newer"}))
    assert letter.created_at > NOON, "the alarm counts it among those of this hour"


@pytest.mark.parametrize("state", ["open", "replayed", "discarded"])
def test_the_same_version_read_again_opens_nothing(account: Account, state: str) -> None:
    put(account, refused=(_refused("old"),))
    DeadLetter.objects.update(state=state, resolved_by="ann", created_at=NOON)
    put(account, refused=(_refused("old"),))
    letter = DeadLetter.objects.get()
    assert (letter.state, letter.resolved_by, letter.created_at) == (state, "ann", NOON)


def test_killed_before_the_commit_the_letter_is_as_it_was(account: Account) -> None:
    put(account, refused=(_refused("old"),))
    DeadLetter.objects.update(state="discarded")
    account.refresh_from_db()

    def die(_receipt: Receipt) -> None:
        raise KeyboardInterrupt

    newer = Batch("end", refused=(_refused("newer"),))
    with pytest.raises(KeyboardInterrupt):
        store.ingest_batch(lease(account), account.sequence, newer, within=die)
    assert dict(DeadLetter.objects.get().raw) == {"body": "old"}
    put(account, refused=(_refused("newer"),))
    assert DeadLetter.objects.get().state == "open"


def test_refusals_cost_two_statements_however_many(account: Account) -> None:
    with CaptureQueriesContext(connection) as none:
        put(account, message(1))
    for count in (1, 50):
        letters = tuple(Refused("message", f"{count}/{n}", "{}", "odd") for n in range(count))
        with CaptureQueriesContext(connection) as some:
            put(account, message(1 + count), refused=letters)
        assert len(some) - len(none) == 2, [one["sql"][:80] for one in some]


def test_every_kind_of_record_has_a_writer(account: Account) -> None:
    assert set(WRITERS) == set(RecordKind)
    put(account, conversation(), message(1), post(), comment())
    for model in (Conversation, Message, Post, Comment):
        assert model.objects.count() == 1


# --- gaps -------------------------------------------------------------------------------------


def gap(key: str, newer: str = "n") -> OpenGap:
    return OpenGap(key, "c1", newer, "o", "a limited timeline")


def open_gaps() -> dict[str, str]:
    return dict(Gap.objects.filter(closed_at=None).values_list("key", "newer_end"))


def test_gaps_are_open_until_the_adapter_names_them_no_more(account: Account) -> None:
    put(account, message(1), gaps=(gap("a"), gap("b")))
    assert open_gaps() == {"a": "n", "b": "n"}
    put(account, message(2), gaps=(gap("b", newer="n2"),))
    assert open_gaps() == {"b": "n2"}
    put(account, message(3))
    assert open_gaps() == {"b": "n2"}, "a batch that says nothing of gaps changes none"
    put(account, gaps=())
    assert open_gaps() == {}
    put(account, message(4), gaps=(gap("a"),))
    assert Gap.objects.filter(key="a").count() == 2, "opened anew, it is another one"


# --- the feed ---------------------------------------------------------------------------------


def changes() -> list[Any]:
    return list(FeedEntry.objects.order_by("id").values_list("changes", flat=True))


def test_a_batch_tells_of_its_changes_once(account: Account) -> None:
    put(account, conversation(), message(1), message(2), post(), comment())
    put(account, message(1), message(2, text="other", **later(1)), message(3))
    put(account, message(1))
    ids = dict(Message.objects.values_list("external_id", "pk"))
    talk = Conversation.objects.get().pk
    assert changes() == [
        {
            "conversation": {"new": [talk]},
            "message": {"new": [ids["m1"], ids["m2"]]},
            "post": {"new": [Post.objects.get().pk]},
            "comment": {"new": [Comment.objects.get().pk]},
        },
        {
            "conversation": {"changed": [talk]},
            "message": {"new": [ids["m3"]], "changed": [ids["m2"]]},
        },
    ]


def test_reading_is_told(account: Account) -> None:
    put(account, message(1), message(2, conversation="c2"))
    one, other = Conversation.objects.order_by("external_id").values_list("pk", flat=True)
    store.mark_read(one)
    store.mark_read(one)
    store.mark_all_read()
    assert changes()[1:] == [{"conversation": {"read": [one]}}, {"conversation": {"read": [other]}}]


def test_refusals_change_the_account(account: Account) -> None:
    put(account, refused=(Refused("message", "m1", "{}", "bad"),))
    assert changes() == [{"account": {"changed": [account.pk]}}]


@pytest.mark.django_db(transaction=True)
def test_positions_are_in_the_order_of_commits() -> None:
    """Of two transactions the one that commits first comes first, whichever wrote first."""
    parameters = connection.get_connection_params()
    wanted = {
        k: v for k, v in parameters.items() if k in {"host", "port", "user", "dbname", "password"}
    }
    insert = """INSERT INTO sync_feedentry (account_id, changes) VALUES (%s, '{"x": 1}')"""
    with (
        psycopg.connect(**wanted) as slow,
        psycopg.connect(**wanted, autocommit=True) as listener,
    ):
        listener.execute("LISTEN muster_feed")
        slow.execute(insert, [1])
        with transaction.atomic():
            feed.append(2, {"account": {"changed": [2]}})
        assert FeedEntry.objects.count() == 1
        slow.commit()
        heard = [int(one.payload) for one in listener.notifies(timeout=5, stop_after=2)]
    entries = list(FeedEntry.objects.order_by("position").values_list("account_id", "position"))
    assert [one[0] for one in entries] == [2, 1]
    assert [one[1] for one in entries] == heard == sorted(heard)


def test_nothing_to_tell_makes_no_entry(account: Account) -> None:
    feed.append(account.pk, {"message": {"new": [], "changed": []}})
    store.ingest(lease(account), 0, merge(Batch("elsewhere")))
    assert changes() == []
