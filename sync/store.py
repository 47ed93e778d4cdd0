"""The one write path of what platforms send: conversations, messages, posts, comments, cursors.

Everything of a batch is in one transaction behind the lock on its account's row: epoch and sequence
are compared, rows, roll-ups, totals, cursor and receipt written, or nothing is [S4, S5].

A message whose conversation nobody told us of, and a comment whose post is not there, make a bare
conversation or post, so that no record waits for another; the real one fills it in when it comes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import F
from django.db.models.functions import Now

from sync import sql
from sync.errors import CountsDisagree, CursorMoved, StaleEpoch
from sync.models import Account, Conversation, DeadLetter, SyncRun
from sync.types import (
    CommentRecord,
    ConversationRecord,
    Lease,
    Merged,
    MessageRecord,
    PostRecord,
    Receipt,
    Refused,
    RunOutcome,
)

INBOX = "muster_inbox"  # the channel that hears of each change; payload: account id


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the records of one kind. `made`: rows that only other records spoke of."""

    inserted: int = 0
    changed: int = 0
    same: int = 0
    made: int = 0
    unread: int = 0  # difference


def ingest(lease: Lease, after_sequence: int, merged: Merged, worker_id: str = "") -> Receipt:
    """Store one batch that was read after batch number `after_sequence` of the account.

    Raises `StaleEpoch` when the lease has lost its worth, `CursorMoved` when another batch was
    committed meanwhile, `CountsDisagree` when the counts don't add up. Then nothing is written.
    """
    begun = time.monotonic()
    with transaction.atomic(), connection.cursor() as cursor:
        known_cursor = _fence(cursor, lease, after_sequence)
        new_cursor = known_cursor if merged.cursor is None else merged.cursor
        if not merged.read and new_cursor == known_cursor:
            Account.objects.filter(pk=lease.account_id).update(last_sync_at=Now(), error_count=0)
            return Receipt(after_sequence, read=0, new=0, changed=0, same=0, refused=0)
        cursor.execute(sql.PREPARE)
        conversations = _write_conversations(cursor, lease.account_id, merged)
        messages = _write_messages(cursor, lease.account_id, merged.messages)
        posts = _write_posts(cursor, lease.account_id, merged)
        comments = _write_comments(cursor, lease.account_id, merged.comments)
        receipt = _count(after_sequence + 1, merged, (conversations, messages, posts, comments))
        _keep_refused(lease.account_id, merged.refused)
        cursor.execute(
            sql.COMMIT_ACCOUNT,
            {
                "account": lease.account_id,
                "cursor": new_cursor,
                "sequence": receipt.sequence,
                "conversations": conversations.inserted,
                "messages": messages.inserted,
                "posts": posts.inserted,
                "comments": comments.inserted,
                "unread": messages.unread,
            },
        )
        SyncRun.objects.create(
            account_id=lease.account_id,
            sequence=receipt.sequence,
            epoch=lease.epoch,
            worker_id=worker_id,
            outcome=RunOutcome.COMMITTED,
            read=receipt.read,
            new=receipt.new,
            changed=receipt.changed,
            same=receipt.same,
            refused=receipt.refused,
            duration_ms=(time.monotonic() - begun) * 1000,
        )
        if receipt.new or receipt.changed or receipt.refused:
            cursor.execute(sql.NOTIFY, [INBOX, str(lease.account_id)])
    return receipt


def mark_read(conversation_id: int, up_to_message_id: int | None = None) -> int:
    """Mark a conversation read, up to a message of it or to its end; returns how many became so.

    Raises `Conversation.DoesNotExist`. A message of another conversation marks nothing.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        account_id = Conversation.objects.values_list("account_id", flat=True).get(
            pk=conversation_id
        )
        cursor.execute(sql.LOCK_ACCOUNT, [account_id])
        cursor.execute(sql.MARK_READ, {"conversation": conversation_id, "upto": up_to_message_id})
        marked: int = cursor.rowcount
        if marked:
            Conversation.objects.filter(pk=conversation_id).update(
                unread_count=F("unread_count") - marked, updated_at=Now()
            )
            Account.objects.filter(pk=account_id).update(unread_total=F("unread_total") - marked)
            cursor.execute(sql.NOTIFY, [INBOX, str(account_id)])
    return marked


def mark_all_read(account_id: int | None = None) -> int:
    """Mark everything of an account, or of all accounts, read; returns how many messages became so.

    One transaction for each account, so that none waits for all.
    """
    accounts = Account.objects.filter(unread_total__gt=0).order_by("pk")
    if account_id is not None:
        accounts = accounts.filter(pk=account_id)
    return sum(_mark_account_read(pk) for pk in list(accounts.values_list("pk", flat=True)))


def _mark_account_read(account_id: int) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.LOCK_ACCOUNT, [account_id])
        cursor.execute(sql.MARK_ALL_READ, [account_id])
        marked: int = cursor.rowcount
        if marked:
            Conversation.objects.filter(account_id=account_id, unread_count__gt=0).update(
                unread_count=0, updated_at=Now()
            )
            Account.objects.filter(pk=account_id).update(unread_total=0)
            cursor.execute(sql.NOTIFY, [INBOX, str(account_id)])
    return marked


def _fence(cursor: CursorWrapper, lease: Lease, after_sequence: int) -> str:
    """Lock the account and return its cursor, if lease and sequence are still the present ones."""
    cursor.execute(sql.LOCK_ACCOUNT, [lease.account_id])
    row = cursor.fetchone()
    if row is None or row[0] != lease.epoch:
        raise StaleEpoch(lease.account_id, lease.epoch, row[0] if row else None)
    if row[1] != after_sequence:
        raise CursorMoved(
            f"account {lease.account_id}: batch {after_sequence} is followed by {row[1]} already"
        )
    return str(row[2])


def _count(sequence: int, merged: Merged, kinds: Sequence[Written]) -> Receipt:
    """The receipt of what the database says it wrote. Raises `CountsDisagree`."""
    receipt = Receipt(
        sequence=sequence,
        read=merged.read,
        new=sum(kind.inserted - kind.made for kind in kinds),
        changed=sum(kind.changed for kind in kinds),
        same=sum(kind.same for kind in kinds) + merged.repeated,
        refused=len(merged.refused),
        unread=sum(kind.unread for kind in kinds),
    )
    if receipt.read != receipt.new + receipt.changed + receipt.same + receipt.refused:
        raise CountsDisagree(f"the counts of batch {sequence} don't add up: {receipt}")
    return receipt


def _copy(cursor: CursorWrapper, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    with connection.wrap_database_errors, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _write(cursor: CursorWrapper, statement: str, account_id: int) -> Written:
    cursor.execute(statement, {"account": account_id})
    return Written(*cursor.fetchone())


def _write_conversations(cursor: CursorWrapper, account_id: int, merged: Merged) -> Written:
    stated = {one.external_id for one in merged.conversations}
    spoken_of = {m.conversation_id for m in merged.messages} - stated
    if not stated and not spoken_of:
        return Written()
    rows: list[ConversationRecord] = sorted(
        [*merged.conversations, *(ConversationRecord(one, title="") for one in spoken_of)],
        key=lambda one: one.external_id,
    )
    _copy(
        cursor,
        sql.COPY_CONVERSATIONS,
        ((r.external_id, r.title, r.is_group, r.external_id in stated) for r in rows),
    )
    return _write(cursor, sql.UPSERT_CONVERSATIONS, account_id)


def _write_messages(
    cursor: CursorWrapper, account_id: int, messages: Sequence[MessageRecord]
) -> Written:
    """Write the messages and bring their conversations' last message and counters along."""
    if not messages:
        return Written()
    _copy(cursor, sql.COPY_MESSAGES, map(_message_row, messages))
    cursor.execute(sql.UPSERT_MESSAGES, {"account": account_id})
    counted = cursor.fetchall()
    touched = [row for row in counted if row[1] or row[2]]
    if touched:
        cursor.execute(
            sql.ROLL_UP_CONVERSATIONS,
            {
                "ids": [row[0] for row in touched],
                "inserted": [row[1] for row in touched],
                "unread": [row[4] for row in touched],
            },
        )
    _ids, inserted, changed, same, unread = zip(*counted, strict=True)
    return Written(sum(inserted), sum(changed), sum(same), unread=sum(unread))


def _message_row(message: MessageRecord) -> tuple[Any, ...]:
    return (
        message.external_id,
        message.conversation_id,
        message.sender_id,
        message.sender_name,
        message.text,
        message.content_type,
        json.dumps([asdict(one) for one in message.attachments]) if message.attachments else "[]",
        message.direction.value,
        message.sent_at,
        message.edited_at,
        message.is_deleted,
    )


def _write_posts(cursor: CursorWrapper, account_id: int, merged: Merged) -> Written:
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
        cursor,
        sql.COPY_POSTS,
        ((*_post_row(post), post.external_id in stated) for post in rows),
    )
    return _write(cursor, sql.UPSERT_POSTS, account_id)


def _post_row(post: PostRecord) -> tuple[Any, ...]:
    return (
        post.external_id,
        post.author_id,
        post.author_name,
        post.title,
        post.text,
        post.url,
        post.published_at,
    )


def _write_comments(
    cursor: CursorWrapper, account_id: int, comments: Sequence[CommentRecord]
) -> Written:
    if not comments:
        return Written()
    _copy(
        cursor,
        sql.COPY_COMMENTS,
        map(_comment_row, comments),
    )
    return _write(cursor, sql.UPSERT_COMMENTS, account_id)


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
    )


def _keep_refused(account_id: int, refused: Sequence[Refused]) -> None:
    """A row for each refusal; one that is there already (the account was read anew) stays one."""
    if not refused:
        return
    ids = [one.external_id for one in refused if one.external_id]
    known = set(
        DeadLetter.objects.filter(account_id=account_id, external_id__in=ids).values_list(
            "kind", "external_id"
        )
    )
    fresh: dict[object, Refused] = {
        (one.kind, one.external_id) if one.external_id else number: one
        for number, one in enumerate(refused)
    }
    DeadLetter.objects.bulk_create(
        DeadLetter(
            account_id=account_id,
            kind=one.kind,
            external_id=one.external_id,
            raw=_raw(one.raw),
            error=one.error,
        )
        for key, one in fresh.items()
        if key not in known
    )


def _raw(text: str) -> dict[str, Any]:
    """The raw record as the JSON object that the encrypted field takes."""
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}
