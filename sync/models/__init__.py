"""Accounts and what they hold. Only `sync.store` writes conversations, messages, posts, comments
and cursors; only `sync.services` changes the rest."""

from sync.models.accounts import (
    MAX_AUDIT_S,
    MAX_INTERVAL_S,
    MIN_AUDIT_S,
    MIN_INTERVAL_S,
    MIN_STALLED_S,
    Account,
    Assignment,
    PlatformServer,
)
from sync.models.deliveries import HookDelivery, HookEndpoint
from sync.models.feed import FeedEntry, FeedFloor
from sync.models.ledger import (
    ACCEPTED_GAP,
    OPEN_GAP,
    Audit,
    DeadLetter,
    Gap,
    SeenVersion,
    SyncRun,
)
from sync.models.records import Comment, Conversation, Message, Post, RecordVersion
from sync.models.requests import OPEN_LOGIN, LoginSession, Reply
from sync.models.totals import SyncTotal

__all__ = [
    "ACCEPTED_GAP",
    "MAX_AUDIT_S",
    "MAX_INTERVAL_S",
    "MIN_AUDIT_S",
    "MIN_INTERVAL_S",
    "MIN_STALLED_S",
    "OPEN_GAP",
    "OPEN_LOGIN",
    "Account",
    "Assignment",
    "Audit",
    "Comment",
    "Conversation",
    "DeadLetter",
    "FeedEntry",
    "FeedFloor",
    "Gap",
    "HookDelivery",
    "HookEndpoint",
    "LoginSession",
    "Message",
    "PlatformServer",
    "Post",
    "RecordVersion",
    "Reply",
    "SeenVersion",
    "SyncRun",
    "SyncTotal",
]
