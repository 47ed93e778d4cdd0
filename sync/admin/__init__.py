"""Accounts, the inbox, and what was received, in the admin."""

from sync.admin import accounts, inbox, records

__all__ = ["accounts", "inbox", "records"]
