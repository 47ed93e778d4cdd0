"""What a platform hands us, record by record."""

from __future__ import annotations

from dataclasses import dataclass
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


class RawShape(StrEnum):
    """What the raw text of a refused record is: the platform's own, or one of our records."""

    PLATFORM = "platform"
    RECORD = "record"


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
    is_immutable: bool = False  # another one with its id is no edit of it: see `sync.originals`


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
