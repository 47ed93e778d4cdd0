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


Record = ConversationRecord | MessageRecord | PostRecord | CommentRecord


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that did not validate, kept as it came [S6]."""

    kind: str
    external_id: str
    raw: str  # JSON text of what the platform sent
    error: str  # for people


@dataclass(frozen=True, slots=True)
class Batch:
    """A bounded set of changes of one account, and the cursor that stands for having them.

    `cursor` is the adapter's own text, opaque to everybody else. `more` says that the platform has
    further pages ready, so that the caller asks again without waiting.
    """

    cursor: str
    records: tuple[Record, ...] = ()
    refused: tuple[Refused, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """A batch in which each record stands once, by kind, in an order in which it can be written."""

    cursor: str
    conversations: tuple[ConversationRecord, ...] = ()
    messages: tuple[MessageRecord, ...] = ()
    posts: tuple[PostRecord, ...] = ()
    comments: tuple[CommentRecord, ...] = ()
    refused: tuple[Refused, ...] = ()
    read: int = 0  # records and refusals that the platform sent
    repeated: int = 0  # of these: dropped because a later one in the batch says the same id


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


@dataclass(frozen=True, slots=True)
class AccountRef:
    """What an adapter needs to know of an account."""

    account_id: int
    platform: str
    identifier: str
    endpoint: str
    credentials: dict[str, object] = field(repr=False)
    session: dict[str, object] = field(repr=False)
