"""The words of sync, as plain data. Imports the standard library only."""

from sync.types.accounts import (
    AccountRef,
    Lease,
    LoginStep,
    OutgoingReply,
)
from sync.types.batches import (
    Batch,
    Listing,
    Merged,
    OpenGap,
    Receipt,
)
from sync.types.records import (
    Attachment,
    CommentRecord,
    ConversationRecord,
    Direction,
    MessageRecord,
    PostRecord,
    RawShape,
    Record,
    RecordKind,
    Refused,
)
from sync.types.states import (
    AuditOutcome,
    BreakerState,
    DeadLetterState,
    DeliveryState,
    LoginSessionState,
    LoginState,
    ReplyState,
    RunOutcome,
    Work,
)

__all__ = [
    "AccountRef",
    "Attachment",
    "AuditOutcome",
    "Batch",
    "BreakerState",
    "CommentRecord",
    "ConversationRecord",
    "DeadLetterState",
    "DeliveryState",
    "Direction",
    "Lease",
    "Listing",
    "LoginSessionState",
    "LoginState",
    "LoginStep",
    "Merged",
    "MessageRecord",
    "OpenGap",
    "OutgoingReply",
    "PostRecord",
    "RawShape",
    "Receipt",
    "Record",
    "RecordKind",
    "Refused",
    "ReplyState",
    "RunOutcome",
    "Work",
]
