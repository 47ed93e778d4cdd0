"""One batch, one transaction [S4, S5]."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from django.db import DataError, IntegrityError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models.functions import Now

from sync import feed, sql
from sync.batches import bounded, bounds
from sync.errors import CountsDisagree, CursorMoved, StaleEpoch
from sync.merge import merge
from sync.models import Account
from sync.store.books import keep_gaps, keep_refused
from sync.store.known import split_known
from sync.store.records import WRITERS, Writing, Written
from sync.types import Batch, Lease, Merged, Receipt, RecordKind

# What of a record shows only here that no row can hold it.
REFUSALS = (DataError, IntegrityError, CountsDisagree)


def ingest(
    lease: Lease,
    after_sequence: int,
    merged: Merged,
    worker_id: str = "",
    within: Callable[[Receipt], None] | None = None,
) -> Receipt:
    """Store one batch that was read after batch number `after_sequence` of the account.

    `within` writes, in the same transaction, what has to be true together with the batch. Raises
    `StaleEpoch` when the lease has lost its worth, `CursorMoved` when another batch was committed
    meanwhile, `CountsDisagree` when the counts don't add up. Then nothing is written.
    """
    begun = time.monotonic()
    with transaction.atomic(), connection.cursor() as cursor:
        known_cursor, had_failed = _fence(cursor, lease, after_sequence)
        new_cursor = known_cursor if merged.cursor is None else merged.cursor
        was_read = merged.cursor is not None  # else pushed, fetched or repaired
        keep_gaps(cursor, lease.account_id, merged.gaps)
        if not merged.read and new_cursor == known_cursor:
            receipt = Receipt(after_sequence, read=0, new=0, changed=0, same=0, refused=0)
            synced = {"last_sync_at": Now(), "error_count": 0} if was_read else {}
            Account.objects.filter(pk=lease.account_id).update(backlog=merged.remaining, **synced)
            if had_failed and was_read:
                feed.append(lease.account_id, {"account": {"changed": [lease.account_id]}})
        else:
            split = split_known(lease.account_id, merged.messages)
            known = len(merged.messages) - len(split.messages) - len(split.refused)
            merged = replace(merged, refused=(*merged.refused, *split.refused))
            differing = replace(merged, messages=split.messages)
            if staging := _staging(differing):
                cursor.execute(staging)
            writing = Writing(
                cursor, lease.account_id, after_sequence + 1, merged.fetched, split.stored
            )
            kinds = {kind: write(writing, differing) for kind, write in WRITERS.items()}
            receipt = _count(writing.sequence, merged, known, tuple(kinds.values()))
            keep_refused(lease.account_id, merged.refused)
            recovers = had_failed and was_read
            said = feed.spoken(_changes(lease.account_id, kinds, receipt, recovers=recovers))
            cursor.execute(
                sql.books.COMMIT_BATCH,
                {
                    **asdict(receipt),
                    **_totals(kinds),
                    "account": lease.account_id,
                    "epoch": lease.epoch,
                    "worker_id": worker_id,
                    "cursor": new_cursor,
                    "was_read": was_read,
                    "news": bool(receipt.new or receipt.changed),
                    "remaining": merged.remaining,
                    "changes": json.dumps(said) if said else None,
                    "duration_ms": (time.monotonic() - begun) * 1000,
                },
            )
        if within is not None:
            within(receipt)
    return receipt


def ingest_batch(
    lease: Lease,
    after_sequence: int,
    batch: Batch,
    worker_id: str = "",
    within: Callable[[Receipt], None] | None = None,
) -> Receipt:
    """Store what an adapter handed over, of any size: in bounded pieces, a transaction each.

    Only the last one moves the cursor and calls `within`. Returns their sum, with the last
    sequence. Raises as `ingest`; the pieces before are stored then, and count as same next time.
    """
    sums: list[Receipt] = []
    largest = bounds().size
    pieces = list(bounded(batch))
    for number, (piece, size) in enumerate(pieces, start=1):
        done = within if number == len(pieces) else None
        merged = merge(piece, size, largest if size > largest else None)
        receipt = ingest(lease, after_sequence, merged, worker_id, done)
        after_sequence = receipt.sequence
        sums.append(receipt)
    return Receipt(
        sequence=after_sequence,
        read=sum(one.read for one in sums),
        new=sum(one.new for one in sums),
        changed=sum(one.changed for one in sums),
        same=sum(one.same for one in sums),
        refused=sum(one.refused for one in sums),
        unread=sum(one.unread for one in sums),
        size=sum(one.size for one in sums),
    )


def _fence(cursor: CursorWrapper, lease: Lease, after_sequence: int) -> tuple[str, bool]:
    """Lock the account and return its cursor, and whether its last check failed, if lease and
    sequence are still the present ones."""
    cursor.execute(sql.books.FENCE, [lease.account_id])
    row = cursor.fetchone()
    if row is None or row[0] != lease.epoch:
        raise StaleEpoch(lease.account_id, lease.epoch, row[0] if row else None)
    if row[1] != after_sequence:
        raise CursorMoved(
            f"account {lease.account_id}: batch {after_sequence} is followed by {row[1]} already"
        )
    return str(row[2]), bool(row[3])


def _staging(merged: Merged) -> str:
    """The staging tables that this batch needs."""
    needed = []
    if merged.messages:
        needed.append(sql.messages.STAGE_MESSAGES)
    if merged.posts or merged.comments:
        needed.append(sql.comments.STAGE_POSTS)
    if merged.comments:
        needed.append(sql.comments.STAGE_COMMENTS)
    return ";".join(needed)


def _count(sequence: int, merged: Merged, known: int, kinds: Sequence[Written]) -> Receipt:
    """The receipt of what the database says it wrote, and `known` before. Raises
    `CountsDisagree`."""
    receipt = Receipt(
        sequence=sequence,
        read=merged.read,
        new=sum(len(kind.new) - kind.made for kind in kinds),
        changed=sum(len(kind.changed) for kind in kinds),
        same=sum(kind.same for kind in kinds) + known + merged.repeated,
        refused=len(merged.refused),
        unread=sum(kind.unread for kind in kinds),
        size=merged.size,
    )
    if receipt.read != receipt.new + receipt.changed + receipt.same + receipt.refused:
        raise CountsDisagree(f"the counts of batch {sequence} don't add up: {receipt}")
    return receipt


def _totals(kinds: Mapping[RecordKind, Written]) -> dict[str, int]:
    """How many rows of each kind came to the account's totals."""
    return {
        "conversations": len(kinds[RecordKind.CONVERSATION].new),
        "messages": len(kinds[RecordKind.MESSAGE].new),
        "posts": len(kinds[RecordKind.POST].new),
        "comments": len(kinds[RecordKind.COMMENT].new),
    }


def _changes(
    account_id: int,
    kinds: Mapping[RecordKind, Written],
    receipt: Receipt,
    *,
    recovers: bool,
) -> feed.Changes:
    """What the feed tells of a batch."""
    changes: dict[str, dict[str, Sequence[int]]] = {
        kind: {"new": written.new, "changed": written.changed} for kind, written in kinds.items()
    }
    conversations = kinds[RecordKind.CONVERSATION]
    touched = {*conversations.changed, *kinds[RecordKind.MESSAGE].touched} - {*conversations.new}
    changes[RecordKind.CONVERSATION]["changed"] = sorted(touched)
    if receipt.refused or recovers:
        changes["account"] = {"changed": [account_id]}
    return changes
