"""`sync.merge`: what becomes of the records of a batch, whatever a platform sends."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.storable import REPLACEMENT, UNSTORABLE
from sync.merge import (
    LONGEST_CONTENT_TYPE,
    LONGEST_ID,
    LONGEST_NAME,
    combine,
    merge,
)
from sync.types import (
    Attachment,
    Batch,
    CommentRecord,
    ConversationRecord,
    Direction,
    MessageRecord,
    PostRecord,
    Record,
    Refused,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def message(number: int = 1, **fields: Any) -> MessageRecord:
    values: dict[str, Any] = {
        "external_id": f"m{number}",
        "conversation_id": "c1",
        "sender_id": "@ann",
        "sender_name": "Ann",
        "text": f"text {number}",
        "sent_at": NOON,
        "direction": Direction.INBOUND,
    }
    return MessageRecord(**{**values, **fields})


def edit(of: MessageRecord, text: str, minutes: int, **fields: Any) -> MessageRecord:
    """An edit as adapters send it: under the original's id, at its own time."""
    at = of.sent_at + timedelta(minutes=minutes)
    return replace(of, text=text, sent_at=at, edited_at=at, **fields)


texts = st.text(st.characters(), max_size=20)  # NUL and surrogates included
ids = st.sampled_from(["a", "b", "c", "d\x00", "", "x" * (LONGEST_ID + 1)])
times = st.integers(0, 5).map(lambda n: NOON + timedelta(minutes=n))
naive = st.just(NOON.replace(tzinfo=None))
records = st.one_of(
    st.builds(ConversationRecord, ids, texts, st.booleans()),
    st.builds(
        MessageRecord,
        external_id=ids,
        conversation_id=ids,
        sender_id=st.sampled_from(["@ann", "@bob"]),
        sender_name=texts,
        text=texts,
        sent_at=times | naive,
        direction=st.sampled_from(Direction),
        edited_at=st.none() | times,
        is_deleted=st.booleans(),
        is_immutable=st.booleans(),
        attachments=st.lists(st.builds(Attachment, texts, texts), max_size=2).map(tuple),
    ),
    st.builds(PostRecord, ids, ids, texts, texts, texts, texts, times),
    st.builds(CommentRecord, ids, ids, st.just(""), ids, texts, texts, times),
)
batches = st.builds(
    Batch,
    cursor=st.just("next"),
    records=st.lists(records, max_size=12).map(tuple),
    refused=st.lists(st.builds(Refused, texts, texts, texts, texts), max_size=3).map(tuple),
)


@given(batches)
def test_counts_add_up_and_each_id_stands_once(batch: Batch) -> None:
    merged = merge(batch)
    kinds = (merged.conversations, merged.messages, merged.posts, merged.comments)
    assert merged.read == len(batch.records) + len(batch.refused)
    assert merged.read == sum(map(len, kinds)) + len(merged.refused) + merged.repeated
    for kind in kinds:
        known = [record.external_id for record in kind]
        assert len(known) == len(set(known))


@given(batches)
def test_merging_twice_changes_nothing(batch: Batch) -> None:
    once = merge(batch)
    records: tuple[Record, ...] = (*once.conversations, *once.messages, *once.posts, *once.comments)
    twice = merge(Batch(once.cursor, records, once.refused))
    assert replace(twice, read=once.read, repeated=once.repeated) == once
    assert twice.repeated == 0


@given(batches)
def test_a_doubled_batch_merges_to_the_same_rows(batch: Batch) -> None:
    once = merge(batch)
    twice = merge(replace(batch, records=batch.records * 2))
    assert (twice.conversations, twice.posts, twice.comments) == (
        once.conversations,
        once.posts,
        once.comments,
    )
    assert {m.external_id for m in twice.messages} == {m.external_id for m in once.messages}


@given(batches)
def test_nothing_that_postgresql_refuses_gets_through(batch: Batch) -> None:
    merged = merge(batch)
    records: list[Record] = [*merged.conversations, *merged.messages, *merged.posts]
    for record in [*records, *merged.comments]:
        for value in asdict(record).values():
            assert not (isinstance(value, str) and UNSTORABLE.search(value))
    for refused in merged.refused:
        assert not UNSTORABLE.search(refused.kind + refused.external_id + refused.error)


@given(st.permutations(range(4)))
def test_versions_of_a_message_may_come_in_any_order(order: list[int]) -> None:
    original = message(text="one")
    versions = [
        original,
        edit(original, "two", 1),
        edit(original, "three", 2, sender_name=""),
        edit(original, "two and a half", 1, sender_id="@ann"),
    ]
    versions[3] = replace(versions[3], edited_at=NOON + timedelta(seconds=90))
    (merged,) = merge(Batch("", tuple(versions[n] for n in order))).messages
    assert merged.text == "three"
    assert merged.sent_at == original.sent_at
    assert merged.edited_at == NOON + timedelta(minutes=2)
    assert merged.sender_name == "Ann"


@given(st.lists(times, min_size=3, max_size=3, unique=True), st.data())
def test_combining_is_associative(sent: list[datetime], data: st.DataObject) -> None:
    a, b, c = (
        message(text=str(n), sent_at=at, edited_at=data.draw(st.none() | times), is_deleted=gone)
        for n, (at, gone) in enumerate(
            zip(sent, data.draw(st.tuples(*[st.booleans()] * 3)), strict=True)
        )
    )
    assert combine(combine(a, b), c) == combine(a, combine(b, c))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_deletion_is_final(order: tuple[int, ...]) -> None:
    original = message()
    gone = replace(original, text="", is_deleted=True, sent_at=NOON + timedelta(minutes=5))
    versions = [original, edit(original, "edited", 9), gone]
    (merged,) = merge(Batch("", tuple(versions[n] for n in order))).messages
    assert merged.is_deleted
    assert merged.text == ""
    assert merged.sent_at == NOON


def test_the_last_of_equal_versions_wins() -> None:
    merged = merge(Batch("", (message(text="old"), message(text="new"))))
    assert [m.text for m in merged.messages] == ["new"]
    assert merged.repeated == 1


def test_no_conversation_is_invented() -> None:
    merged = merge(Batch("", (message(),)))
    assert merged.conversations == ()


def test_an_edit_alone_is_a_message() -> None:
    (merged,) = merge(Batch("", (edit(message(), "only the edit", 3),))).messages
    assert merged.text == "only the edit"


def test_text_is_made_storable_and_names_are_cut() -> None:
    record = message(text="a\x00b\ud800c", sender_name="n" * 600, content_type="t" * 101)
    (merged,) = merge(Batch("", (record,))).messages
    assert merged.text == f"a{REPLACEMENT}b{REPLACEMENT}c"
    assert len(merged.sender_name) == LONGEST_NAME
    assert len(merged.content_type) == LONGEST_CONTENT_TYPE


@pytest.mark.parametrize(
    "field", ["external_id", "conversation_id", "sender_id", "sender_name", "content_type", "text"]
)
def test_every_text_is_looked_at(field: str) -> None:
    merged = merge(Batch("", (message(1, **{field: "a\x00"}), message(2))))
    stored = [getattr(m, field) for m in merged.messages if m.external_id != "m2"]
    assert stored in ([], [f"a{REPLACEMENT}"])
    assert len(stored) + len(merged.refused) == 1


def test_what_fits_is_no_copy() -> None:
    record = message(sender_name="n" * LONGEST_NAME, text="你好", edited_at=NOON)
    assert merge(Batch("", (record,))).messages[0] is record


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"external_id": ""}, "external_id is empty"),
        ({"external_id": "x" * 501}, "external_id has 501 characters, at most 500 fit"),
        ({"conversation_id": "c\x00"}, "conversation_id has a character that can't be stored"),
        ({"sender_id": "x" * 501}, "sender_id has 501 characters, at most 500 fit"),
        ({"sender_id": "\ud800"}, "sender_id has a character that can't be stored"),
        ({"sent_at": datetime(2026, 1, 1)}, "sent_at has no time zone"),  # noqa: DTZ001
        ({"edited_at": datetime(2026, 1, 1)}, "edited_at has no time zone"),  # noqa: DTZ001
        (
            {"sent_at": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))},
            "sent_at is outside of the years 1 to 9999",
        ),
    ],
)
def test_what_can_not_be_a_row_is_refused(fields: dict[str, Any], error: str) -> None:
    merged = merge(Batch("", (message(**fields), message(2))))
    assert [m.external_id for m in merged.messages] == ["m2"]
    assert [(one.kind, one.error) for one in merged.refused] == [("message", error)]


def test_an_unknown_kind_of_record_is_refused_loudly() -> None:
    merged = merge(Batch("", ({"kind": "story"}, message())))  # type: ignore[arg-type]
    (refused,) = merged.refused
    assert refused.error == "unknown record kind 'dict'"
    assert "story" in refused.raw
    assert merged.read == 2
