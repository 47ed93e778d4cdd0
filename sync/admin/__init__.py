"""Accounts, the inbox, and what was received, in the admin."""

from sync.admin import accounts, assignment, inbox, records

__all__ = ["accounts", "assignment", "inbox", "records"]
