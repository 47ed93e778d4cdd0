"""Where things stand, and what may wait."""

from __future__ import annotations

from enum import StrEnum


class LoginState(StrEnum):
    """Where an account stands with its platform [S11]."""

    NONE = "none"  # never tried
    PENDING = "pending"
    SCANNED = "scanned"
    SUCCESS = "success"
    FAILED = "failed"
    EXPIRED = "expired"


class LoginSessionState(StrEnum):
    """Where a login that somebody asked for stands [S11]."""

    PENDING = "pending"
    SCANNED = "scanned"  # the QR image was scanned, the phone has still to confirm
    SUCCESS = "success"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class RunOutcome(StrEnum):
    """How one sync run of an account ended."""

    COMMITTED = "committed"
    FAILED = "failed"


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


class AuditOutcome(StrEnum):
    """How an audit of an account ended [S9]."""

    RUNNING = "running"
    COMPLETE = "complete"  # store and platform agree, after repairs if any were needed
    FAILED = "failed"


class BreakerState(StrEnum):
    """Whether a platform's server is asked at all."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"  # one account tries


class Work(StrEnum):
    """What may wait for an account's check beside reading."""

    LOGINS = "logins"
    DELIVERIES = "deliveries"
    REPLIES = "replies"
    MARKS = "marks"  # what was read here, for the platform to know
    AUDITS = "audits"
