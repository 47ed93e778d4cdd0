"""Texts that PostgreSQL stores: it takes neither NUL nor half of a surrogate pair."""

from __future__ import annotations

import re

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> str:
    """The text with U+FFFD for what can't be stored."""
    return text if is_storable(text) else UNSTORABLE.sub(REPLACEMENT, text)


def is_storable(text: str) -> bool:
    """As `UNSTORABLE` says, several times faster."""
    if "\x00" in text:
        return False
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True
