"""`sync.store`: one transaction for a batch, whatever happens around it [S3, S4, S5]."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from dataclasses import fields as dataclass_fields
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync import merge as merging
from sync import store
from sync.errors import CountsDisagree, CursorMoved, StaleEpoch, SyncError
from sync.merge import merge
from sync.models import Account, Comment, Conversation, DeadLetter, Message, Post, SyncRun
from sync.store import known
from sync.store import records as writing
from sync.types import Attachment, Batch, Direction, Lease, MessageRecord, Receipt, Record, Refused
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
from tests.threads import alongside

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    return make_account()


def put(account: Account, *records: Record, refused: tuple[Refused, ...] = ()) -> Receipt:
    """Store a batch at the account's present place."""
    account.refresh_from_db()
    batch = Batch(f"after-{account.sequence + 1}", records, refused)
    return store.ingest(lease(account), account.sequence, merge(batch), "worker-1")


# --- what is written --------------------------------------------------------------------------


def test_a_batch_is_stored_with_its_cursor_and_receipt(account: Account) -> None:
    receipt = put(account, conversation(), message(1), message(2), post(), comment())
    assert (receipt.read, receipt.new, receipt.same, receipt.unread) == (5, 5, 0, 2)
    account.refresh_from_db()
    assert (account.cursor, account.sequence) == ("after-1", 1)
    assert account.last_sync_at is not None
    talk = Conversation.objects.get()
    assert (talk.title, talk.last_message_text, talk.last_sender_name) == ("Talk", "text 2", "Ann")
    assert talk.last_message_at == NOON + timedelta(seconds=2)
    run = SyncRun.objects.get()
    assert (run.sequence, run.read, run.new, run.worker_id) == (1, 5, 5, "worker-1")
    check_counters(account)


def test_a_replay_changes_nothing(account: Account) -> None:
    records = (conversation(), message(1), message(2), post(), comment())
    put(account, *records)
    before = rows(account)
    receipt = put(account, *records)
    assert (receipt.new, receipt.changed, receipt.same, receipt.unread) == (0, 0, 5, 0)
    assert rows(account) == before
    check_counters(account)


def test_a_replay_writes_no_row_versions(account: Account) -> None:
    put(account, *(message(n) for n in range(50)))
    versions = list(Message.objects.order_by("id").extra(select={"v": "xmin::text"}).values("v"))
    put(account, *(message(n) for n in range(50)))
    assert versions == list(
        Message.objects.order_by("id").extra(select={"v": "xmin::text"}).values("v")
    )


def test_only_what_differs_is_staged(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store holds to the letter is neither copied nor compared by the rules."""
    put(account, *(message(n) for n in range(50)))
    staged: list[str] = []
    row = writing._message_row

    def seen(one: MessageRecord, conversation_id: int) -> tuple[Any, ...]:
        staged.append(one.external_id)
        return row(one, conversation_id)

    monkeypatch.setattr(writing, "_message_row", seen)
    edited = message(7, text="edited", edited_at=NOON + timedelta(minutes=1))
    receipt = put(account, *(edited if n == 7 else message(n) for n in range(51)))
    assert staged == ["m7", "m50"]
    assert (receipt.read, receipt.new, receipt.changed, receipt.same) == (51, 1, 1, 49)
    check_counters(account)


FILE = Attachment("mxc://a", "a.png", "image/png", 5)


@pytest.mark.parametrize(
    "fields",
    [
        {"sender_id": "@bob"},
        {"sender_name": "Bob"},
        {"text": "text"},
        {"content_type": "notice"},
        {"attachments": ()},
        {"attachments": (replace(FILE, size=6),)},
        {"sent_at": NOON},
        {"edited_at": NOON + timedelta(minutes=1)},
        {"is_deleted": True},
    ],
)
def test_any_difference_is_noticed(account: Account, fields: dict[str, Any]) -> None:
    record = message(1, attachments=(FILE,))
    assert put(account, record, record).same == 1
    receipt = put(account, replace(record, **fields))
    assert (receipt.new, receipt.changed, receipt.same) == (0, 1, 0)
    ((name, value),) = fields.items()
    expected = [asdict(one) for one in value] if name == "attachments" else value
    assert Message.objects.values_list(name, flat=True).get() == expected


def test_all_that_a_message_says_is_compared() -> None:
    others = {"external_id", "conversation_id", "attachments", "is_immutable"}  # the last says how
    assert set(known.SAID) | others == {field.name for field in dataclass_fields(MessageRecord)}


def test_a_message_told_of_elsewhere_stays_and_makes_the_other_conversation(
    account: Account,
) -> None:
    put(account, message(1, "c1"))
    receipt = put(account, message(1, "c2"), message(1, "c2", direction=Direction.OUTBOUND))
    assert (receipt.new, receipt.changed, receipt.same) == (0, 0, 2)
    assert Message.objects.get().conversation.external_id == "c1"
    assert Conversation.objects.filter(external_id="c2", messages_total=0).exists()
    check_counters(account)


def test_a_key_is_checked_at_once_and_by_a_kept_plan(account: Account) -> None:
    """The check of 500 keys was half of a first write, planned anew for each or left to commit."""
    with transaction.atomic(), connection.cursor() as cursor:
        put(account, message(1))
        cursor.execute("SHOW plan_cache_mode")
        assert cursor.fetchone() == ("auto",)
        cursor.execute(
            "SELECT condeferrable FROM pg_constraint"
            " WHERE contype = 'f' AND conrelid = 'sync_message'::regclass"
        )
        assert cursor.fetchall() == [(False,)]


def test_what_repeats_within_a_batch_counts_as_same(account: Account) -> None:
    receipt = put(account, message(1), message(1), message(2))
    assert (receipt.read, receipt.new, receipt.same) == (3, 2, 1)


def test_an_edit_changes_the_row_and_counts_no_unread(account: Account) -> None:
    put(account, message(1))
    at = NOON + timedelta(minutes=1)
    receipt = put(account, message(1, text="edited", edited_at=at, sent_at=at))
    assert (receipt.changed, receipt.unread) == (1, 0)
    row = Message.objects.get()
    assert (row.text, row.edited_at) == ("edited", at)
    assert row.sent_at == NOON + timedelta(seconds=1)
    assert Conversation.objects.get().last_message_text == "edited"
    check_counters(account)


def test_the_original_does_not_undo_an_edit(account: Account) -> None:
    put(account, message(1))
    put(account, message(1, text="edited", edited_at=NOON + timedelta(minutes=1)))
    receipt = put(account, message(1))
    assert receipt.same == 1
    assert Message.objects.get().text == "edited"


def test_a_deleted_message_needs_no_reading(account: Account) -> None:
    put(account, message(1), message(2))
    receipt = put(account, message(2, text="", is_deleted=True))
    assert (receipt.changed, receipt.unread) == (1, -1)
    row = Message.objects.get(external_id="m2")
    assert (row.is_deleted, row.is_read, row.text) == (True, True, "")
    check_counters(account)


def test_own_messages_are_not_unread(account: Account) -> None:
    receipt = put(account, message(1, direction=Direction.OUTBOUND), message(2))
    assert (receipt.new, receipt.unread) == (2, 1)
    assert Conversation.objects.get().unread_count == 1


def test_a_message_makes_its_conversation(account: Account) -> None:
    receipt = put(account, message(1, "unknown"))
    assert (receipt.read, receipt.new) == (1, 1)
    assert Conversation.objects.get().title == ""
    receipt = put(account, conversation("unknown", "Now known"))
    assert (receipt.changed, receipt.new) == (1, 0)
    put(account, message(2, "unknown"))
    assert Conversation.objects.get().title == "Now known"
    check_counters(account)


def test_a_comment_makes_its_post(account: Account) -> None:
    receipt = put(account, comment(2), comment(1))
    assert (receipt.read, receipt.new) == (2, 2)
    bare = Post.objects.get()
    assert (bare.title, bare.published_at) == ("", NOON + timedelta(seconds=1))
    assert put(account, post()).changed == 1
    put(account, comment(3))
    assert Post.objects.get().title == "A work"
    assert Comment.objects.count() == 3
    check_counters(account)


def test_an_older_message_is_not_the_last_one(account: Account) -> None:
    put(account, message(5))
    put(account, message(1))
    assert Conversation.objects.get().last_message_text == "text 5"


def test_refused_records_are_kept_and_their_neighbours_stored(account: Account) -> None:
    refused = Refused("message", "x", '{"body": 1}', "body is not a text")
    receipt = put(account, message(1), refused=(refused,))
    assert (receipt.read, receipt.new, receipt.refused) == (2, 1, 1)
    letter = DeadLetter.objects.get()
    assert (letter.kind, letter.error, dict(letter.raw)) == (
        "message",
        "body is not a text",
        {"body": 1},
    )
    put(account, refused=(refused,))
    assert DeadLetter.objects.count() == 1


@pytest.mark.parametrize("raw", ["not json", "[1, 2]", '"text"', "{}"])
def test_any_raw_text_can_be_kept(account: Account, raw: str) -> None:
    put(account, refused=(Refused("event", "", raw, "odd"),))
    assert DeadLetter.objects.count() == 1


def test_an_idle_poll_leaves_no_receipt(account: Account) -> None:
    put(account, message(1))
    Account.objects.update(error_count=3, last_sync_at=None)
    account.refresh_from_db()
    receipt = store.ingest(lease(account), 1, merge(Batch(account.cursor)))
    assert receipt == Receipt(1, 0, 0, 0, 0, 0)
    account.refresh_from_db()
    assert (account.sequence, account.error_count) == (1, 0)
    assert account.last_sync_at is not None
    assert SyncRun.objects.count() == 1


def test_an_empty_batch_moves_the_cursor(account: Account) -> None:
    assert put(account).sequence == 1
    account.refresh_from_db()
    assert account.cursor == "after-1"


HARD = [
    "tab\tnew\nline\r\\N \\. \\t backslash\\",
    "'; DROP TABLE sync_message; --",
    '"quoted", {json}, %s %(account)s',
    "日本語 Ελλάδα עברית 🦜👩‍👩‍👧 \u202eright\u202c",
    "nul\x00and\ud83dhalf",
    "x" * 1_200_000,
    "",
]


def test_hard_texts_come_back_as_they_were(account: Account) -> None:
    records = [message(n, text=text, sender_name=text) for n, text in enumerate(HARD)]
    records.append(message(99, attachments=(Attachment("mxc://a", 'n"\\\n\x00', "image/png", 5),)))
    assert put(account, conversation(title=HARD[0]), *records).new == len(HARD) + 2
    stored = dict(Message.objects.values_list("external_id", "text"))
    for number, text in enumerate(HARD):
        assert stored[f"m{number}"] == merging.clean(text)
    attachment = Message.objects.get(external_id="m99").attachments[0]
    assert attachment["name"] == 'n"\\\n\N{REPLACEMENT CHARACTER}'
    assert put(account, *records).same == len(records)


def test_the_limits_are_those_of_the_columns() -> None:
    def longest(model: Any, name: str) -> int:
        return int(model._meta.get_field(name).max_length)

    for model in (Conversation, Message, Post, Comment):
        assert longest(model, "external_id") == merging.LONGEST_ID
    assert longest(Message, "sender_id") == longest(Comment, "author_id") == merging.LONGEST_ID
    assert longest(Comment, "parent_external_id") == merging.LONGEST_ID
    assert longest(Conversation, "title") == longest(Message, "sender_name") == merging.LONGEST_NAME
    assert longest(Message, "content_type") == merging.LONGEST_CONTENT_TYPE
    assert longest(Post, "title") == merging.LONGEST_POST_TITLE
    assert longest(Post, "url") == merging.LONGEST_ADDRESS
    assert longest(DeadLetter, "kind") == merging.LONGEST_KIND


def test_accounts_do_not_share_ids(account: Account) -> None:
    other = make_account()
    put(account, message(1))
    put(other, message(1, text="other"))
    assert Message.objects.count() == 2
    check_counters(account)
    check_counters(other)


def test_ten_thousand_messages(account: Account) -> None:
    records = [message(n, f"c{n % 100}") for n in range(10_000)]
    assert put(account, *records).new == 10_000
    assert put(account, *records).same == 10_000
    assert Conversation.objects.get(external_id="c7").messages_total == 100
    check_counters(account)


@pytest.mark.parametrize("size", [1, 200])
def test_the_number_of_queries_does_not_grow_with_the_batch(account: Account, size: int) -> None:
    records = [message(n, f"c{n % 10}") for n in range(size)]
    put(account, *records)
    with CaptureQueriesContext(connection) as queries:
        store.ingest(lease(account), 1, merge(Batch("next", tuple(records), ())))
    # savepoint × 2, lock, receipt; and, not Django's, the look at what is there
    assert len(queries) == 4
    changed = tuple(replace(m, text="new", edited_at=NOON) for m in records)
    with CaptureQueriesContext(connection) as queries:
        store.ingest(lease(account), 2, merge(Batch("last", changed, ())))
    # and staging, conversations, a copy, messages, their conversations
    assert len(queries) == 9


# --- who may write ----------------------------------------------------------------------------


def test_a_stale_epoch_is_refused(account: Account) -> None:
    put(account, message(1))
    before = rows(account)
    with pytest.raises(StaleEpoch) as stale:
        store.ingest(Lease(account.pk, account.epoch + 1), 1, merge(Batch("x", (message(2),))))
    assert (stale.value.held, stale.value.current) == (account.epoch + 1, account.epoch)
    assert rows(account) == before


def test_a_deleted_account_is_a_stale_epoch() -> None:
    with pytest.raises(StaleEpoch) as stale:
        store.ingest(Lease(4711, 0), 0, merge(Batch("x")))
    assert stale.value.current is None


def test_an_idle_poll_with_a_stale_epoch_is_refused(account: Account) -> None:
    with pytest.raises(StaleEpoch):
        store.ingest(Lease(account.pk, 9), 0, merge(Batch("")))


def test_a_batch_behind_another_is_refused(account: Account) -> None:
    put(account, message(1))
    with pytest.raises(CursorMoved):
        store.ingest(lease(account), 0, merge(Batch("x", (message(2),))))
    assert Message.objects.count() == 1


def test_counts_that_disagree_write_nothing(account: Account) -> None:
    merged = replace(merge(Batch("x", (message(1), message(2)))), read=3)
    with pytest.raises(CountsDisagree):
        store.ingest(lease(account), 0, merged)
    account.refresh_from_db()
    assert (account.sequence, account.cursor, Message.objects.count()) == (0, "", 0)


class Killed(Exception):
    pass


def killer(at: int) -> Any:
    """An execute wrapper that dies at the statement of that number."""
    seen = iter(range(10_000))

    def execute(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if next(seen) == at:
            raise Killed
        return run(sql, params, many, context)

    return execute


def test_a_kill_at_any_statement_leaves_nothing(account: Account) -> None:
    refused = (Refused("event", "", "{}", "odd"),)
    merged = merge(
        Batch("x", (conversation(), message(1), post(), comment(), comment(2, "other")), refused)
    )
    survived = 0
    for at in range(100):
        try:
            with transaction.atomic(), connection.execute_wrapper(killer(at)):
                store.ingest(lease(account), 0, merged)
                survived = at
                break
        except Killed:
            account.refresh_from_db()
            assert (account.sequence, account.cursor, account.messages_total) == (0, "", 0)
            assert not any(rows(account).values())
            assert not SyncRun.objects.exists()
            assert not DeadLetter.objects.exists()
    assert survived > 10
    check_counters(account)


def test_a_failing_copy_leaves_nothing(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_comment: Any) -> Any:
        raise Killed

    monkeypatch.setattr(writing, "_comment_row", broken)
    with pytest.raises(Killed), transaction.atomic():
        store.ingest(lease(account), 0, merge(Batch("x", (message(1), comment()))))
    assert not any(rows(account).values())


# --- order, repetition, reading: anything goes ------------------------------------------------


def versions() -> Iterator[MessageRecord]:
    for number in range(3):
        original = message(number, f"c{number % 2}")
        yield original
        for minute in (1, 2):
            at = NOON + timedelta(minutes=minute)
            yield replace(original, text=f"edit {minute}", sent_at=at, edited_at=at)
    yield replace(message(2, "c0"), text="", is_deleted=True)


VERSIONS = list(versions())


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.permutations(VERSIONS),
    st.lists(st.sampled_from(VERSIONS), max_size=6),
    st.lists(st.integers(0, 16), max_size=4),
)
def test_order_and_repetition_leave_the_same_rows(
    order: list[MessageRecord], repeats: list[MessageRecord], cuts: list[int]
) -> None:
    straight, shuffled = make_account(), make_account()
    put(straight, *VERSIONS)
    records = [*order, *repeats]
    bounds = [0, *sorted(cuts), len(records)]
    for begin, end in pairwise(bounds):
        put(shuffled, *records[begin:end])
    assert rows(shuffled) == rows(straight)
    check_counters(shuffled)


steps = st.one_of(
    st.tuples(st.just("put"), st.lists(st.sampled_from(VERSIONS), min_size=1, max_size=5)),
    st.tuples(st.just("read"), st.sampled_from(["c0", "c1"])),
    st.tuples(st.just("read up to"), st.integers(0, 2)),
    st.tuples(st.just("read all"), st.none()),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(steps, max_size=8))
def test_unread_equals_a_recount_after_anything(done: list[tuple[str, Any]]) -> None:
    account = make_account()
    for what, argument in done:
        match what:
            case "put":
                put(account, *argument)
            case "read":
                for talk in Conversation.objects.filter(account=account, external_id=argument):
                    store.mark_read(talk.pk)
            case "read up to":
                for row in Message.objects.filter(account=account, external_id=f"m{argument}"):
                    store.mark_read(row.conversation_id, row.pk)
            case _:
                store.mark_all_read(account.pk)
        check_counters(account)


def test_mark_read_up_to_a_message(account: Account) -> None:
    put(account, message(1), message(2), message(3), message(4, direction=Direction.OUTBOUND))
    talk = Conversation.objects.get()
    second = Message.objects.get(external_id="m2")
    assert store.mark_read(talk.pk, second.pk) == 2
    assert store.mark_read(talk.pk, second.pk) == 0
    check_counters(account)
    assert account.unread_total == 1
    assert store.mark_read(talk.pk) == 1
    check_counters(account)


def test_mark_read_up_to_a_message_of_another_conversation_marks_nothing(account: Account) -> None:
    put(account, message(1), message(2, "c2"))
    talk = Conversation.objects.get(external_id="c1")
    assert store.mark_read(talk.pk, Message.objects.get(external_id="m2").pk) == 0


def test_mark_read_of_nothing_known() -> None:
    with pytest.raises(Conversation.DoesNotExist):
        store.mark_read(4711)


def test_mark_all_read(account: Account) -> None:
    other = make_account()
    put(account, message(1), message(2, "c2"))
    put(other, message(1))
    assert store.mark_all_read(account.pk) == 2
    assert store.mark_all_read() == 1
    check_counters(account)
    check_counters(other)


# --- several writers --------------------------------------------------------------------------


def in_threads(*work: Any) -> list[Any]:
    """Run all at once, each on a connection of its own; what each returned or raised."""
    barrier = threading.Barrier(len(work), timeout=30)
    results: list[Any] = [None] * len(work)

    def run(place: int) -> None:
        barrier.wait()
        try:
            results[place] = work[place]()
        except SyncError as error:
            results[place] = error

    with alongside(*(partial(run, place) for place in range(len(work)))):
        pass
    return results


@pytest.mark.django_db(transaction=True)
def test_two_writers_at_one_place_and_one_wins() -> None:
    account = make_account()

    def write() -> Receipt:
        records = tuple(message(n) for n in range(200))
        return store.ingest(lease(account), 0, merge(Batch("x", records)))

    results = in_threads(write, write)
    assert sorted(type(one).__name__ for one in results) == ["CursorMoved", "Receipt"]
    assert Message.objects.count() == 200
    check_counters(account)


@pytest.mark.django_db(transaction=True)
def test_writers_and_readers_at_once_keep_the_counters_right() -> None:
    account = make_account()
    put(account, message(0))
    talk = Conversation.objects.get()

    def write() -> None:
        for start in range(1, 200, 10):
            put(account_of_its_own(), *(message(n) for n in range(start, start + 10)))

    def account_of_its_own() -> Account:
        return Account.objects.get(pk=account.pk)

    def read() -> None:
        for _ in range(20):
            store.mark_read(talk.pk)
            store.mark_all_read()

    assert in_threads(write, read, read) == [None, None, None]
    assert Message.objects.count() == 201
    check_counters(account)


def test_what_is_immutable_stays_and_another_one_with_its_id_is_refused(account: Account) -> None:
    """A mail's id is known to all who got it."""
    ours = message(1, is_immutable=True, direction=Direction.OUTBOUND, attachments=(FILE,))
    put(account, ours)
    stored = Message.objects.values().get()
    forged = replace(ours, text="pay to another account", sent_at=ours.sent_at - timedelta(1))
    stranger = replace(ours, text="something else", sender_id="@eve")
    footer = replace(ours, text=f"{ours.text} and a footer", attachments=())
    receipt = put(account, forged, message(2), stranger)
    assert (receipt.new, receipt.changed, receipt.same, receipt.refused) == (1, 0, 0, 2)
    receipt = put(account, footer)
    assert (receipt.changed, receipt.same, receipt.refused) == (0, 1, 0)
    assert Message.objects.values().get(external_id="m1") == stored
    assert {one.raw["text"] for one in DeadLetter.objects.all()} == {forged.text, stranger.text}
    put(account, forged, stranger)
    assert DeadLetter.objects.count() == 2
    check_counters(account)


def test_the_file_of_an_immutable_message_may_move(account: Account) -> None:
    ours = message(1, is_immutable=True, attachments=(FILE,))
    put(account, ours)
    receipt = put(account, replace(ours, attachments=(replace(FILE, url="mxc://b"),)))
    assert (receipt.changed, receipt.refused) == (1, 0)
    assert Message.objects.get().attachments[0]["url"] == "mxc://b"
