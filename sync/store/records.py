"""Writing the records of a batch, kind by kind, in sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper

from sync import sql
from sync.store.known import attachments_of
from sync.types import (
    CommentRecord,
    ConversationRecord,
    Merged,
    MessageRecord,
    PostRecord,
    RecordKind,
)


@dataclass(frozen=True, slots=True)
class Writing:
    """One batch being written: where to, and as which batch of the account."""

    cursor: CursorWrapper
    account_id: int
    sequence: int
    fetched: bool
    stored: Mapping[str, int] = field(default_factory=dict)  # ids of the messages that are there
    conversations: dict[str, int] = field(default_factory=dict)  # ids of those spoken of

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "account": self.account_id,
            "sequence": self.sequence,
            "fetched": self.fetched,
        }


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the records of one kind."""

    new: tuple[int, ...] = ()  # database ids
    changed: tuple[int, ...] = ()
    same: int = 0
    made: int = 0  # of the new ones: those that only other records spoke of
    unread: int = 0  # difference
    touched: tuple[int, ...] = ()  # conversations whose last message or counters changed


def _copy(cursor: CursorWrapper, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    with connection.wrap_database_errors, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _write(writing: Writing, statement: str) -> Written:
    writing.cursor.execute(statement, writing.parameters)
    new, changed, same, made = writing.cursor.fetchone()
    return Written(tuple(new or ()), tuple(changed or ()), same, made)


def _write_conversations(writing: Writing, merged: Merged) -> Written:
    stated = {one.external_id for one in merged.conversations}
    spoken_of = {m.conversation_id for m in merged.messages} - stated
    if not stated and not spoken_of:
        return Written()
    rows: list[ConversationRecord] = sorted(
        [*merged.conversations, *(ConversationRecord(one, title="") for one in spoken_of)],
        key=lambda one: one.external_id,
    )
    given: dict[str, Any] = {
        "account": writing.account_id,
        "ids": [row.external_id for row in rows],
        "titles": [row.title for row in rows],
        "groups": [row.is_group for row in rows],
        "stated": [row.external_id in stated for row in rows],
    }
    writing.cursor.execute(sql.messages.UPSERT_CONVERSATIONS, given)
    new, changed, same, made, ids = writing.cursor.fetchone()
    writing.conversations.update(json.loads(ids))
    return Written(tuple(new or ()), tuple(changed or ()), same, made)


def _write_messages(writing: Writing, merged: Merged) -> Written:
    """Write the messages and bring their conversations' last message and counters along."""
    if not merged.messages:
        return Written()
    talks, stored = writing.conversations, writing.stored
    rows = (
        (stored.get(one.external_id), *_message_row(one, talks[one.conversation_id]))
        for one in merged.messages
    )
    _copy(writing.cursor, sql.messages.COPY_MESSAGES, rows)
    writing.cursor.execute(sql.messages.UPSERT_MESSAGES, writing.parameters)
    counted = [(row[0], row[1] or [], row[2] or [], *row[3:]) for row in writing.cursor.fetchall()]
    touched = [row for row in counted if row[1] or row[2]]
    if touched:
        writing.cursor.execute(
            sql.messages.ROLL_UP_CONVERSATIONS,
            {
                "ids": [row[0] for row in touched],
                "inserted": [len(row[1]) for row in touched],
                "unread": [row[4] for row in touched],
            },
        )
    _ids, new, changed, same, unread = zip(*counted, strict=True)
    return Written(
        tuple(sorted(chain.from_iterable(new))),
        tuple(sorted(chain.from_iterable(changed))),
        sum(same),
        unread=sum(unread),
        touched=tuple(row[0] for row in touched),
    )


def _message_row(message: MessageRecord, conversation_id: int) -> tuple[Any, ...]:
    return (
        message.external_id,
        conversation_id,
        message.sender_id,
        message.sender_name,
        message.text,
        message.content_type,
        json.dumps(attachments_of(message)) if message.attachments else "[]",
        message.direction.value,
        message.sent_at,
        message.edited_at,
        message.is_deleted,
    )


def _write_posts(writing: Writing, merged: Merged) -> Written:
    stated = {post.external_id for post in merged.posts}
    first_seen: dict[str, datetime] = {}
    for comment in merged.comments:
        if comment.post_id not in stated:
            seen = first_seen.get(comment.post_id, comment.published_at)
            first_seen[comment.post_id] = min(seen, comment.published_at)
    if not stated and not first_seen:
        return Written()
    bare = (PostRecord(one, "", "", "", "", "", seen) for one, seen in first_seen.items())
    rows = sorted([*merged.posts, *bare], key=lambda post: post.external_id)
    _copy(
        writing.cursor,
        sql.comments.COPY_POSTS,
        ((*_post_row(post), post.external_id in stated) for post in rows),
    )
    return _write(writing, sql.comments.UPSERT_POSTS)


def _post_row(post: PostRecord) -> tuple[Any, ...]:
    return (
        post.external_id,
        post.author_id,
        post.author_name,
        post.title,
        post.text,
        post.url,
        post.published_at,
        post.edited_at,
        post.is_deleted,
    )


def _write_comments(writing: Writing, merged: Merged) -> Written:
    if not merged.comments:
        return Written()
    _copy(writing.cursor, sql.comments.COPY_COMMENTS, map(_comment_row, merged.comments))
    return _write(writing, sql.comments.UPSERT_COMMENTS)


def _comment_row(comment: CommentRecord) -> tuple[Any, ...]:
    return (
        comment.external_id,
        comment.post_id,
        comment.parent_id,
        comment.author_id,
        comment.author_name,
        comment.text,
        comment.direction.value,
        comment.published_at,
        comment.edited_at,
        comment.is_deleted,
    )


Writer = Callable[[Writing, Merged], Written]

# In the order in which the rows refer to each other.
WRITERS: dict[RecordKind, Writer] = {
    RecordKind.CONVERSATION: _write_conversations,
    RecordKind.MESSAGE: _write_messages,
    RecordKind.POST: _write_posts,
    RecordKind.COMMENT: _write_comments,
}
# A kind that nobody writes fails here, not at night [S6].
if unwritten := set(RecordKind) - set(WRITERS):
    raise TypeError(f"nobody writes records of these kinds: {sorted(unwritten)}")
