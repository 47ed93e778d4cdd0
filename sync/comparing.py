"""What a window of a platform's ids says about our rows [S9]. Reads only, a query for each set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from sync.models import Comment, Conversation, Message, Post, SeenVersion
from sync.types import (
    Attachment,
    CommentRecord,
    Direction,
    Listing,
    MessageRecord,
    PostRecord,
    Record,
    RecordKind,
)

# kind: its table, when a record is from, whose it is (its scope)
TABLES: dict[RecordKind, tuple[type[Any], str, str]] = {
    RecordKind.CONVERSATION: (Conversation, "", ""),
    RecordKind.MESSAGE: (Message, "sent_at", "conversation"),
    RecordKind.POST: (Post, "published_at", ""),
    RecordKind.COMMENT: (Comment, "published_at", "post"),
}
if unknown := set(RecordKind) - set(TABLES):
    raise TypeError(f"records of these kinds are not compared: {sorted(unknown)}")


@dataclass(frozen=True, slots=True)
class Difference:
    """External ids, sorted."""

    missing: tuple[str, ...] = ()  # listed, and not ours
    doubtful: tuple[str, ...] = ()  # ours, maybe of another version, or deleted
    unlisted: tuple[str, ...] = ()  # ours, and not in the list


def compare(account_id: int, listing: Listing, stored_before: datetime) -> Difference:
    """Rows that were stored since `stored_before` are left out: the list may be older.

    Uses the unique index on (account, external id), and for what is not listed the indexes on
    (conversation, sent_at) and (post, published_at).
    """
    ours = _listed_rows(account_id, listing)
    return Difference(
        missing=tuple(sorted(listing.ids.keys() - ours.keys())),
        doubtful=tuple(sorted(_doubtful(account_id, listing, ours))),
        unlisted=tuple(sorted(set(_window(account_id, listing, stored_before)) - {*listing.ids})),
    )


def row_ids(account_id: int, kind: RecordKind, external_ids: Iterable[str]) -> dict[str, int]:
    """Database ids by external id, of those that we hold."""
    rows = TABLES[kind][0].objects.filter(account_id=account_id, external_id__in=[*external_ids])
    return dict(rows.values_list("external_id", "pk"))


def tombstones(account_id: int, kind: RecordKind, external_ids: Iterable[str]) -> list[Record]:
    """Our rows as records that were deleted on the platform."""
    _table, _time, parent = TABLES[kind]
    rows = TABLES[kind][0].objects.filter(account_id=account_id, external_id__in=[*external_ids])
    rows = rows.select_related(parent) if parent else rows
    return [_tombstone(row) for row in rows if not isinstance(row, Conversation)]


def _listed_rows(account_id: int, listing: Listing) -> dict[str, tuple[int, str, bool]]:
    """external id → (database id, when it is from as its version text, deleted)."""
    table, time, _parent = TABLES[listing.kind]
    rows = table.objects.filter(account_id=account_id, external_id__in=[*listing.ids])
    if not time:
        return {one: (pk, "", False) for one, pk in rows.values_list("external_id", "pk")}
    found = rows.values_list("external_id", "pk", time, "edited_at", "is_deleted")
    return {
        one: (pk, (edited or at).isoformat(), deleted) for one, pk, at, edited, deleted in found
    }


def _doubtful(
    account_id: int, listing: Listing, ours: dict[str, tuple[int, str, bool]]
) -> Iterable[str]:
    """Those whose version text is neither the one seen with what we hold, nor the time of it; and
    those that are deleted with us: the platform lists what it has, so they are there again."""
    seen = dict(
        SeenVersion.objects.filter(
            account_id=account_id, kind=listing.kind, record_id__in=[pk for pk, *_ in ours.values()]
        ).values_list("record_id", "version")
    )
    for external_id, (pk, held_at, deleted) in ours.items():
        version = listing.ids[external_id]
        is_same = not version or seen.get(pk) == version or _is_moment(version, held_at)
        if deleted or not is_same:
            yield external_id


def _is_moment(version: str, held_at: str) -> bool:
    """Whether a version text is the point in time that what we hold was written or edited at."""
    try:
        return datetime.fromisoformat(version) == datetime.fromisoformat(held_at)
    except (ValueError, TypeError):  # no time, or one without a zone
        return False


def _window(account_id: int, listing: Listing, stored_before: datetime) -> Iterable[str]:
    """External ids of our rows in the window, without those that are deleted already."""
    table, time, parent = TABLES[listing.kind]
    if not time:  # we keep conversations that the platform holds no longer
        return ()
    rows: QuerySet[Any] = table.objects.filter(
        **{f"{time}__gte": listing.since, f"{time}__lt": listing.until},
        is_deleted=False,
        stored_at__lt=stored_before,
    )
    if listing.kind is RecordKind.POST:
        # Those that only a comment spoke of, maybe of a kind that we don't read, are in no list.
        rows = rows.exclude(author_id="", title="", text="", url="")
    if parent:  # by way of the parents: their indexes know the time
        rows = rows.filter(**{f"{parent}__account_id": account_id})
        if listing.scope:
            rows = rows.filter(**{f"{parent}__external_id": listing.scope})
    else:
        rows = rows.filter(account_id=account_id)
    return rows.values_list("external_id", flat=True)


def _tombstone(row: Message | Post | Comment) -> Record:
    match row:
        case Message():
            return MessageRecord(
                external_id=row.external_id,
                conversation_id=row.conversation.external_id,
                sender_id=row.sender_id,
                sender_name=row.sender_name,
                text="",
                sent_at=row.sent_at,
                direction=Direction(row.direction),
                content_type=row.content_type,
                attachments=tuple(Attachment(**one) for one in row.attachments),
                edited_at=row.edited_at,
                is_deleted=True,
            )
        case Post():
            return PostRecord(
                external_id=row.external_id,
                author_id=row.author_id,
                author_name=row.author_name,
                title=row.title,
                text="",
                url=row.url,
                published_at=row.published_at,
                edited_at=row.edited_at,
                is_deleted=True,
            )
        case Comment():
            return CommentRecord(
                external_id=row.external_id,
                post_id=row.post.external_id,
                parent_id=row.parent_external_id,
                author_id=row.author_id,
                author_name=row.author_name,
                text="",
                published_at=row.published_at,
                direction=Direction(row.direction),
                edited_at=row.edited_at,
                is_deleted=True,
            )
