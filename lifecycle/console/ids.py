"""Ids of rows as they come in addresses and forms."""

from __future__ import annotations

import re

ID = re.compile(r"[0-9]{1,19}")  # not `isdigit`: "²" is a digit, and no number
LARGEST = 2**63 - 1  # a bigint of PostgreSQL


def row_id(text: object) -> int | None:
    """The id that a text says; None if no row can have it."""
    found = ID.fullmatch(str(text))
    number = int(found[0]) if found else 0
    return number if 1 <= number <= LARGEST else None
