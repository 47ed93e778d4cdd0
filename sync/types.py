"""The words of sync, as plain data. Imports the standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class RecordKind(StrEnum):
    """Every kind of record that a platform can hand us."""

    CONVERSATION = "conversation"
    MESSAGE = "message"
    POST = "post"
    COMMENT = "comment"


class Direction(StrEnum):
    """Who wrote: somebody to us, or we ourselves (on any device)."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class LoginState(StrEnum):
    """Where an account stands with its platform [S11]."""

    NONE = "none"  # never tried
    PENDING = "pending"
    SCANNED = "scanned"
    SUCCESS = "success"
    FAILED = "failed"
    EXPIRED = "expired"


class RunOutcome(StrEnum):
    """How one sync run of an account ended."""

    COMMITTED = "committed"
    FAILED = "failed"


class LoginSessionState(StrEnum):
    """Where a login that somebody asked for stands [S11]."""

    PENDING = "pending"
    SCANNED = "scanned"  # the QR image was scanned, the phone has still to confirm
    SUCCESS = "success"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class ReplyState(StrEnum):
    """Where a reply stands [S12]."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DeliveryState(StrEnum):
    """Where a webhook delivery stands [S13]."""

    PENDING = "pending"
    DONE = "done"
    REFUSED = "refused"  # what it held is in the dead letters


class DeadLetterState(StrEnum):
    """What became of a record that did not validate [S6]."""

    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class RawShape(StrEnum):
    """What the raw text of a refused record is: the platform's own, or one of our records."""

    PLATFORM = "platform"
    RECORD = "record"


class AuditOutcome(StrEnum):
    """How an audit of an account ended [S9]."""

    RUNNING = "running"
    COMPLETE = "complete"  # store and platform agree, after repairs if any were needed
    FAILED = "failed"


class Work(StrEnum):
    """What may wait for an account's check beside reading."""

    LOGINS = "logins"
    DELIVERIES = "deliveries"
    REPLIES = "replies"
    MARKS = "marks"  # what was read here, for the platform to know
    AUDITS = "audits"


class BreakerState(StrEnum):
    """Whether a platform's server is asked at all."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"  # one account tries


@dataclass(frozen=True, slots=True)
class Attachment:
    """A reference to a file on the platform; the bytes stay there."""

    url: str
    name: str = ""
    media_type: str = ""
    size: int | None = None


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    external_id: str
    title: str
    is_group: bool = False


@dataclass(frozen=True, slots=True)
class MessageRecord:
    external_id: str
    conversation_id: str  # the conversation's external id
    sender_id: str
    sender_name: str
    text: str
    sent_at: datetime  # aware
    direction: Direction
    content_type: str = "text"
    attachments: tuple[Attachment, ...] = ()
    edited_at: datetime | None = None
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class PostRecord:
    external_id: str
    author_id: str
    author_name: str
    title: str
    text: str
    url: str
    published_at: datetime  # aware
    edited_at: datetime | None = None
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class CommentRecord:
    external_id: str
    post_id: str  # the post's external id
    parent_id: str  # the parent comment's external id, "" at the top
    author_id: str
    author_name: str
    text: str
    published_at: datetime  # aware
    direction: Direction = Direction.INBOUND
    edited_at: datetime | None = None
    is_deleted: bool = False


Record = ConversationRecord | MessageRecord | PostRecord | CommentRecord


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that did not validate, kept as it came [S6]."""

    kind: str
    external_id: str
    raw: str  # JSON text
    error: str  # for people
    shape: RawShape = RawShape.PLATFORM


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A stretch that the platform has and we don't, until backfill has closed it [S9]."""

    key: str  # names it for as long as it is open
    scope: str  # the conversation's or post's external id, "" for the whole account
    newer_end: str  # just below what we have above it; a time or the platform's own token
    older_end: str  # "" for the very beginning
    reason: str  # for people


@dataclass(frozen=True, slots=True)
class Batch:
    """A bounded set of changes of one account, and the cursor that stands for having them.

    `cursor` is the adapter's own text, opaque to everybody else; None leaves it as it is (what was
    pushed, fetched or repaired beside the reading). `more` says that the platform has further pages
    ready, so that the caller asks again without waiting. `gaps`: all that are open after this
    batch; None leaves them as they are. `remaining`: about how many records of the platform are
    still to be read before we have caught up, None when it doesn't tell. `fetched`: the records
    are as they are now, asked for by their ids, and so newer than all that we have.
    """

    cursor: str | None
    records: tuple[Record, ...] = ()
    refused: tuple[Refused, ...] = ()
    more: bool = False
    gaps: tuple[OpenGap, ...] | None = None
    remaining: int | None = None
    fetched: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """A batch in which each record stands once, by kind, in an order in which it can be written."""

    cursor: str | None
    conversations: tuple[ConversationRecord, ...] = ()
    messages: tuple[MessageRecord, ...] = ()
    posts: tuple[PostRecord, ...] = ()
    comments: tuple[CommentRecord, ...] = ()
    refused: tuple[Refused, ...] = ()
    read: int = 0  # records and refusals that the platform sent
    repeated: int = 0  # of these: dropped because a later one in the batch says the same id
    size: int = 0  # bytes, about
    gaps: tuple[OpenGap, ...] | None = None
    remaining: int | None = None
    fetched: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for an account: worthless once the account's epoch has risen [S5]."""

    account_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one committed batch did. `read == new + changed + same + refused`."""

    sequence: int
    read: int
    new: int
    changed: int
    same: int
    refused: int
    unread: int = 0  # inbound messages that were new
    size: int = 0  # bytes, about


@dataclass(frozen=True, slots=True)
class AccountRef:
    """What an adapter needs to know of an account."""

    account_id: int
    platform: str
    identifier: str
    endpoint: str
    credentials: dict[str, object] = field(repr=False)
    session: dict[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class OutgoingReply:
    """What an operator wants to say: into a conversation, or below a post (and a comment of it).

    `key` is unique and stays the same however often sending is tried.
    """

    key: str
    text: str
    created_at: datetime  # aware
    conversation_id: str = ""  # external ids
    post_id: str = ""
    parent_id: str = ""
    answers_id: str = ""  # the last inbound message of the conversation, "" when there is none
    answers_sender_id: str = ""
    # Of other replies there that were sent since about then: none of them is this one.
    taken_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Listing:
    """All that a platform holds of one kind in one window, by id [S9].

    `ids`: external id → a text that changes with each version, "" where the platform tells none.
    The window is [since, until); `scope` as in `OpenGap`.
    """

    kind: RecordKind
    scope: str
    since: datetime  # aware
    until: datetime  # aware
    ids: dict[str, str]


@dataclass(frozen=True, slots=True)
class LoginStep:
    """What a person has to see or do while a login is under way [S11]."""

    state: LoginSessionState
    message: str = ""  # for people
    qr_text: str = ""  # what the QR image says
    url: str = ""  # where to go on, for OAuth
    expires_at: datetime | None = None
