"""What is read, merged, committed and compared at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from sync.types.records import (
    CommentRecord,
    ConversationRecord,
    MessageRecord,
    PostRecord,
    Record,
    RecordKind,
    Refused,
)


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
    are as they are now, and so newer than all that we have.
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
    repeated: int = 0  # of these: dropped because another one in the batch says the same id
    size: int = 0  # bytes, about
    gaps: tuple[OpenGap, ...] | None = None
    remaining: int | None = None
    fetched: bool = False


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
class Listing:
    """All that a platform holds of one kind in one window, by id [S9].

    `ids`: external id → a text that changes with each version, "" where the platform tells none.
    The window is [since, until); `scope` as in `OpenGap`. `place`: the adapter's own text, from
    which it lists on below this window; "" where the window's time is enough.
    """

    kind: RecordKind
    scope: str
    since: datetime  # aware
    until: datetime  # aware
    ids: dict[str, str]
    place: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """How far a listing came: the lower end of its last window, and that one's `place`."""

    since: datetime  # aware
    place: str = ""


@dataclass(frozen=True, slots=True)
class KnownPost:
    """A post, and what we have below it."""

    changed_at: datetime  # when it was published or last edited; aware
    commented_at: datetime | None  # the last comment below it; aware
    comments: int  # without those that were deleted


@dataclass(frozen=True, slots=True)
class LastKnown:
    """How far we have all of an account, by external id: its conversations, each with when its last
    message was sent (aware), and its posts.

    No time is later than when the account was last read: clocks of platforms may be ahead.
    """

    conversations: Mapping[str, datetime]
    posts: Mapping[str, KnownPost]

    @property
    def message_at(self) -> datetime | None:
        """The last message of all."""
        return max(self.conversations.values(), default=None)

    @property
    def comment_at(self) -> datetime | None:
        """The last comment of all."""
        times = (one.commented_at for one in self.posts.values())
        return max((at for at in times if at), default=None)

    @property
    def post_at(self) -> datetime | None:
        """The last time that any post changed."""
        return max((one.changed_at for one in self.posts.values()), default=None)


# By kind and scope.
Done = Mapping[tuple[RecordKind, str], Listed]
NOTHING_DONE: Done = MappingProxyType({})
