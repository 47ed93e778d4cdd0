"""Accounts, the inbox, and what was received, in the admin."""

from sync.admin import (
    accounts,
    assignment,
    deadletters,
    hooks,
    inbox,
    logins,
    posts,
    records,
    replies,
    status,
)

__all__ = [
    "accounts",
    "assignment",
    "deadletters",
    "hooks",
    "inbox",
    "logins",
    "posts",
    "records",
    "replies",
    "status",
]
