"""From what a platform sent to what can be written: each record once, and only what fits a row.

Two records of one message are one message: the one with the earlier `sent_at` says who wrote it
and where, the newer version (deleted before edited before original; the later on a tie) says what
it reads now. Of posts and comments the newer version counts, by the same order. `sync.sql` applies
the same rules against the stored row, so that the order in which versions arrive does not matter
[S4]. Of messages that are immutable the first counts, and no version (`sync.originals`).

PostgreSQL stores neither NUL nor half of a surrogate pair: both become U+FFFD in what people read.
In an id they would change what the id names, so such a record is refused, as is one whose id is too
long, whose time has no zone or is beyond the calendar, or whose kind nobody knows [S6]. Names and
titles are cut.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any, TypeVar

from lifecycle.storable import is_storable, storable
from sync.originals import Fate, fate, refusal
from sync.types import (
    Attachment,
    Batch,
    CommentRecord,
    ConversationRecord,
    Merged,
    MessageRecord,
    PostRecord,
    RawShape,
    Record,
    RecordKind,
    Refused,
)
from sync.weights import weight

# What the columns hold (characters); tests compare them with the models.
LONGEST_ID = 500
LONGEST_NAME = 500
LONGEST_CONTENT_TYPE = 100
LONGEST_POST_TITLE = 1000
LONGEST_ADDRESS = 2000
LONGEST_KIND = 50

NEVER = datetime.min.replace(tzinfo=UTC)

P = TypeVar("P", PostRecord, CommentRecord)
R = TypeVar("R", ConversationRecord, MessageRecord, PostRecord, CommentRecord)


class Unfit(ValueError):
    """The record can't become a row; the message tells people why."""


def merge(batch: Batch, size: int = 0, largest: int | None = None) -> Merged:
    """Each record of the batch once. Total: whatever does not fit ends in `refused`, as does a
    record of more than `largest` bytes [S3]. `size`: of the batch, about (bytes).

    `read == len(conversations + messages + posts + comments) + len(refused) + repeated`.
    """
    fit: dict[type[Record], list[Any]] = {kind: [] for kind in FITTERS}
    refused = [_storable(one) for one in batch.refused]
    for record in batch.records:
        try:
            if largest is not None:
                _require_size(record, largest)
            one = _fit(record)
        except Unfit as why:
            refused.append(_refusal(record, str(why)))
        else:
            fit[type(one)].append(one)
    conversations = _once(fit[ConversationRecord], _last)
    messages = _messages_once(fit[MessageRecord], refused)
    posts = _once(fit[PostRecord], _newest)
    comments = _once(fit[CommentRecord], _newest)
    kept = len(conversations) + len(messages) + len(posts) + len(comments) + len(refused)
    read = len(batch.records) + len(batch.refused)
    return Merged(
        cursor=batch.cursor,
        conversations=conversations,
        messages=messages,
        posts=posts,
        comments=comments,
        refused=tuple(refused),
        gaps=batch.gaps,
        remaining=batch.remaining,
        fetched=batch.fetched,
        size=size,
        read=read,
        repeated=read - kept,
    )


def combine(earlier: MessageRecord, later: MessageRecord) -> MessageRecord:
    """One message out of two records of it, `later` having arrived after `earlier`."""
    origin, other = (earlier, later) if earlier.sent_at < later.sent_at else (later, earlier)
    content = earlier if version(earlier) > version(later) else later
    return replace(
        origin,
        sender_name=origin.sender_name or other.sender_name,
        text=content.text,
        content_type=content.content_type,
        attachments=content.attachments,
        edited_at=content.edited_at,
        is_deleted=content.is_deleted,
    )


def version(record: MessageRecord | PostRecord | CommentRecord) -> tuple[bool, datetime]:
    """The order of a record's versions: an edit follows all before it, nothing a deletion."""
    return record.is_deleted, record.edited_at or NEVER


def _newest(earlier: P, later: P) -> P:
    return earlier if version(earlier) > version(later) else later


def _last(_earlier: R, later: R) -> R:
    return later


def _once(records: Iterable[R], join: Callable[[R, R], R]) -> tuple[R, ...]:
    """One record for each id, in the order in which the ids came."""
    kept: dict[str, R] = {}
    for record in records:
        known = kept.get(record.external_id)
        kept[record.external_id] = record if known is None else join(known, record)
    return tuple(kept.values())


def _messages_once(
    records: Iterable[MessageRecord], refused: list[Refused]
) -> tuple[MessageRecord, ...]:
    """As `_once`; immutable ones that are another than the first are added to `refused`."""
    kept: dict[str, MessageRecord] = {}
    for record in records:
        known = kept.setdefault(record.external_id, record)
        if known is record:
            continue
        match fate(known, record) if record.is_immutable else Fate.WRITE:
            case Fate.WRITE:
                kept[record.external_id] = combine(known, record)
            case Fate.REFUSE:
                refused.append(refusal(known, record))
    return tuple(kept.values())


def _fit(record: Record) -> Record:
    """The record as its row can hold it. Raises `Unfit`."""
    fitter = FITTERS.get(type(record))
    if fitter is None:
        raise Unfit(f"unknown record kind '{type(record).__name__}'")
    return fitter(record)


def _fit_conversation(record: ConversationRecord) -> ConversationRecord:
    _require_id("external_id", record.external_id)
    return replace(record, title=clean(record.title, LONGEST_NAME))


def _fit_message(record: MessageRecord) -> MessageRecord:
    if _fits_as_it_is(record):
        return record
    _require_id("external_id", record.external_id)
    _require_id("conversation_id", record.conversation_id)
    _require_id("sender_id", record.sender_id, blank=True)
    _require_zone("sent_at", record.sent_at)
    _require_zone("edited_at", record.edited_at)
    return replace(
        record,
        sender_name=clean(record.sender_name, LONGEST_NAME),
        text=clean(record.text),
        content_type=clean(record.content_type, LONGEST_CONTENT_TYPE),
        attachments=tuple([_fit_attachment(one) for one in record.attachments]),
    )


def _fits_as_it_is(m: MessageRecord) -> bool:
    """Whether the rules below would change and refuse nothing, as with nearly all: one look at all
    texts instead of one at each takes half the time."""
    ids, name, kind = (m.external_id, m.conversation_id, m.sender_id), m.sender_name, m.content_type
    return (
        not m.attachments
        and _is_plain_time(m.sent_at)
        and (m.edited_at is None or _is_plain_time(m.edited_at))
        and 0 < len(ids[0]) <= LONGEST_ID
        and 0 < len(ids[1]) <= LONGEST_ID
        and len(ids[2]) <= LONGEST_ID
        and len(name) <= LONGEST_NAME
        and len(kind) <= LONGEST_CONTENT_TYPE
        and is_storable("\n".join((*ids, name, kind, m.text)))
    )


def _is_plain_time(value: datetime) -> bool:
    return MINYEAR < value.year < MAXYEAR and value.utcoffset() is not None


def _fit_attachment(attachment: Attachment) -> Attachment:
    return replace(
        attachment,
        url=clean(attachment.url),
        name=clean(attachment.name),
        media_type=clean(attachment.media_type),
    )


def _fit_post(record: PostRecord) -> PostRecord:
    _require_id("external_id", record.external_id)
    _require_id("author_id", record.author_id, blank=True)
    _require_zone("published_at", record.published_at)
    _require_zone("edited_at", record.edited_at)
    url = clean(record.url)
    return replace(
        record,
        author_name=clean(record.author_name, LONGEST_NAME),
        title=clean(record.title, LONGEST_POST_TITLE),
        text=clean(record.text),
        url=url if len(url) <= LONGEST_ADDRESS else "",  # half an address leads nowhere
    )


def _fit_comment(record: CommentRecord) -> CommentRecord:
    _require_id("external_id", record.external_id)
    _require_id("post_id", record.post_id)
    _require_id("parent_id", record.parent_id, blank=True)
    _require_id("author_id", record.author_id, blank=True)
    _require_zone("published_at", record.published_at)
    _require_zone("edited_at", record.edited_at)
    return replace(
        record,
        author_name=clean(record.author_name, LONGEST_NAME),
        text=clean(record.text),
    )


FITTERS: dict[type[Record], Callable[[Any], Record]] = {
    ConversationRecord: _fit_conversation,
    MessageRecord: _fit_message,
    PostRecord: _fit_post,
    CommentRecord: _fit_comment,
}


def clean(text: str, longest: int | None = None) -> str:
    """The text without what PostgreSQL can't store, cut to `longest` characters."""
    text = storable(text)
    return text if longest is None or len(text) <= longest else text[:longest]


def _require_id(field: str, value: str, *, blank: bool = False) -> None:
    if not value and not blank:
        raise Unfit(f"{field} is empty")
    if len(value) > LONGEST_ID:
        raise Unfit(f"{field} has {len(value)} characters, at most {LONGEST_ID} fit")
    if not is_storable(value):
        raise Unfit(f"{field} has a character that can't be stored")


def _require_size(record: Record, largest: int) -> None:
    size = weight(record)
    if size > largest:
        raise Unfit(f"it has about {size:,} bytes, at most {largest:,} are stored")


def _require_zone(field: str, value: datetime | None) -> None:
    if value is None:
        return
    if value.tzinfo is None or value.utcoffset() is None:
        raise Unfit(f"{field} has no time zone")
    try:
        value.astimezone(UTC)
    except OverflowError:  # PostgreSQL would keep it, and nobody could read it again
        raise Unfit(f"{field} is outside of the years 1 to 9999") from None


def _refusal(record: object, why: str) -> Refused:
    """The refused record as it came, for the dead-letter table."""
    kinds: dict[type, str] = {
        ConversationRecord: RecordKind.CONVERSATION,
        MessageRecord: RecordKind.MESSAGE,
        PostRecord: RecordKind.POST,
        CommentRecord: RecordKind.COMMENT,
    }
    known = isinstance(record, ConversationRecord | MessageRecord | PostRecord | CommentRecord)
    raw = asdict(record) if known else {"repr": repr(record)}  # type: ignore[call-overload]
    return _storable(
        Refused(
            kind=kinds.get(type(record), type(record).__name__),
            external_id=str(getattr(record, "external_id", "")),
            raw=json.dumps(raw, default=str),
            error=why,
            shape=RawShape.RECORD if known else RawShape.PLATFORM,
        )
    )


def _storable(refused: Refused) -> Refused:
    return replace(
        refused,
        kind=clean(refused.kind, LONGEST_KIND),
        external_id=clean(refused.external_id, LONGEST_ID),
        error=clean(refused.error),
    )
