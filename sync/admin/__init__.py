"""Accounts, the inbox, and what was received, in the admin."""

from sync.admin import accounts, assignment, hooks, inbox, records

__all__ = ["accounts", "assignment", "hooks", "inbox", "records"]
