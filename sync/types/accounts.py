"""What a check and an adapter know of an account, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sync.types.states import LoginSessionState


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for an account: worthless once the account's epoch has risen [S5]."""

    account_id: int
    epoch: int


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
class LoginStep:
    """What a person has to see or do while a login is under way [S11]."""

    state: LoginSessionState
    message: str = ""  # for people
    qr_text: str = ""  # what the QR image says
    url: str = ""  # where to go on, for OAuth
    expires_at: datetime | None = None
