"""Headers of mails as people wrote them, whatever the mailer made of them. Total, pure.

Anybody can write them: what the standard library takes too long for stays as it was written.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import MessageError
from email.header import decode_header
from email.parser import BytesHeaderParser
from email.policy import compat32
from email.utils import getaddresses, parsedate_to_datetime

from sync.platforms.email.charsets import decoded

LONGEST_ID = 400  # a column holds 500 characters
LONGEST_READ = 1024 * 1024  # bytes of a header that are looked at
# Characters times words: `decode_header` looks for each encoded word's end in all that follows.
DEAREST = 10_000_000
IN_BRACKETS = re.compile(r"<([^<>]+)>")
BETWEEN = re.compile(r"[\s<>,;:\"()]+")  # addresses
PREFIXES = re.compile(
    r"^(\s*(re|r|aw|sv|vs|antw|odp|ynt|rif|ref|wg|fwd?|tr|rv|enc|回复|回覆|答复|答覆|转发|轉寄|返信|転送)"
    r"(\[\d+\]|\(\d+\))?\s*[:：])+\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Address:
    mailbox: str  # in lower case
    name: str


class Headers:
    """The header of one mail, by names in any case."""

    def __init__(self, data: bytes) -> None:
        message = BytesHeaderParser(policy=compat32).parsebytes(data[:LONGEST_READ])
        self._values: dict[str, list[str]] = {}
        for name, value in message.raw_items():
            text = decoded(str(value).encode("utf-8", "surrogateescape"), "")
            unfolded = re.sub(r"\r?\n(?=[ \t])|[\r\n]+", "", text).strip()
            self._values.setdefault(name.lower(), []).append(unfolded)

    def text(self, name: str) -> str:
        """The first of that name with its encoded words (RFC 2047) decoded, "" without one."""
        return plain(self._raw(name))

    def addresses(self, *names: str) -> tuple[Address, ...]:
        """Each mailbox once, in order."""
        found: dict[str, Address] = {}
        for name in names:
            for one in self._values.get(name.lower(), []):
                for address in addresses_of(one):
                    found.setdefault(address.mailbox, address)
        return tuple(found.values())

    def ids(self, name: str) -> list[str]:
        """Message ids without their brackets, each once."""
        text = " ".join(self._values.get(name.lower(), []))
        inside = ["".join(one.split()) for one in IN_BRACKETS.findall(text)]
        bare = inside or [one.strip("<>,;\"'") for one in text.split() if "@" in one]
        return list(dict.fromkeys(one for one in bare if one))

    def date(self, name: str = "date") -> datetime | None:
        """Without a zone it is taken as UTC."""
        try:
            found = parsedate_to_datetime(self._raw(name))
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None

    def _raw(self, name: str) -> str:
        return self._values.get(name.lower(), [""])[0]


def addresses_of(text: str) -> list[Address]:
    try:
        found = getaddresses([text])
    except (ValueError, IndexError, TypeError, AttributeError, RecursionError):
        found = []
    pairs = [(name, mailbox) for name, mailbox in found if "@" in mailbox]
    if not pairs:
        pairs = [("", one) for one in BETWEEN.split(text) if "@" in one[1:-1]]
    return [Address(mailbox.strip().lower(), plain(name)) for name, mailbox in pairs]


def plain(text: str) -> str:
    """`text` with its encoded words decoded."""
    if text.count("=?") * len(text) > DEAREST:
        return text
    try:
        pieces = decode_header(text)
    except (MessageError, ValueError, LookupError):
        return text
    if all(isinstance(piece, str) for piece, _charset in pieces):
        return text
    # What stands between encoded words comes back in this codec.
    return "".join(
        decoded(bytes(piece), charset) if charset else bytes(piece).decode("raw-unicode-escape")
        for piece, charset in pieces
    )


def base_subject(subject: str) -> str:
    """Without Re:, Fwd: and their kin."""
    return PREFIXES.sub("", " ".join(subject.split()))


def stored_id(message_id: str) -> str:
    """A message id as we keep it: itself, or a digest where a column or a SEARCH can't hold it."""
    if message_id.isascii() and message_id.isprintable() and len(message_id) <= LONGEST_ID:
        return message_id
    return digest(message_id.encode("utf-8", "surrogatepass"))


def digest(*parts: bytes) -> str:
    return "sha256-" + hashlib.sha256(b"\0".join(parts)).hexdigest()
