"""Ids of rows, and places in the feed, as they come in addresses and forms."""

from __future__ import annotations

import re

DIGITS = re.compile(r"[0-9]{1,19}")  # not `isdigit`: "²" is a digit, and no number
LARGEST = 2**63 - 1  # a bigint of PostgreSQL


def bigint(text: object) -> int | None:
    """The number from 0 on that a text says; None if it says none, or one that is too large."""
    found = DIGITS.fullmatch(str(text))
    number = int(found[0]) if found else -1
    return number if 0 <= number <= LARGEST else None


def row_id(text: object) -> int | None:
    """The id that a text says; None if no row can have it."""
    return bigint(text) or None
