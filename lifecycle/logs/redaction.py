"""Secrets in text: hidden where our own records are made, and again where any output is shown.

Imports the standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from lifecycle.masking import MASK, SECRET_NAME, URL_WITH_PASSWORD

SHORTEST_SECRET = 4  # shorter ones would hide half of every line

# A value is quoted (also inside a quoted string, where its quotes are escaped), or one word.
_VALUE = r"""("(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|\\".*?\\"|[^\s"',;&)\]}<>\\]+)"""
_NAMED = re.compile(
    r"""((?:password|passwd|passphrase|pwd|secret|token|credentials?|(?:api|private|access|secret)
    [_-]?key)\\?["']?\s*[=:]\s*)"""
    + _VALUE,
    re.IGNORECASE | re.VERBOSE,
)
# A header to its end: schemes and parameters go with the credential (RFC 9110, 11.6.2).
_HEADER = re.compile(
    r"""((?:authorization|cookie)\\?["']?\s*[=:,]\s*(?:b(?=["']))?\\?["']?)([^"'\\\r\n]+)""",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer|basic)(\s+)(?=\S*\d)[\w.~+/=-]{8,}", re.IGNORECASE)
_URL = re.compile(r"([a-z][a-z0-9+.-]*://[^\s/:@\"']*:)([^\s/@\"']+)(@)", re.IGNORECASE)
_HINTS = (
    *("pass", "pwd", "secret", "token", "credential", "key"),
    *("authorization", "cookie", "bearer", "basic", "@"),
)


def redact(text: str) -> str:
    """The text with everything hidden whose form or name says that it is a secret."""
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    text = _HEADER.sub(_masked_value, text)
    text = _NAMED.sub(_masked_value, text)
    text = _BEARER.sub(rf"\1\2{MASK}", text)
    return _URL.sub(rf"\1{MASK}\3", text)


def _masked_value(found: re.Match[str]) -> str:
    """Only the value is replaced: JSON stays JSON."""
    name, value = found[1], found[2]
    opening = re.match(r"\\?[\"']", value)
    if opening is None:
        return name + MASK
    closing = opening[0] if value.endswith(opening[0]) and len(value) > len(opening[0]) else ""
    return f"{name}{opening[0]}{MASK}{closing}"


class Redactor:
    """Hides given secrets, in every form that they take in a line, and what `redact` finds."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, text: str) -> str:
        if self._known:
            text = self._known.sub(MASK, text)
        return redact(text)


def _forms(secret: str) -> Iterator[str]:
    for part in (secret, *secret.splitlines()):  # a key of many lines is printed line by line
        if len(part) >= SHORTEST_SECRET:
            yield part
            yield json.dumps(part)[1:-1]
            yield json.dumps(part, ensure_ascii=False)[1:-1]
            yield quote(part, safe="")


def secrets_in(value: Any, name: str = "") -> Iterator[str]:
    """The strings in a config's free-form field whose name, or form, says that they are secret."""
    if isinstance(value, Mapping):
        for inner_name, inner in value.items():
            secret = bool(name) or bool(SECRET_NAME.search(str(inner_name)))
            yield from secrets_in(inner, str(inner_name) if secret else "")
    elif isinstance(value, list):
        for inner in value:
            yield from secrets_in(inner, name)
    elif isinstance(value, str) and name:
        yield value
    elif isinstance(value, str) and (found := URL_WITH_PASSWORD.match(value)):
        yield found[1]
