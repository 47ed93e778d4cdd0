"""What an IMAP server says, and what it is told, taken apart and put together. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from imapclient import imap_utf7
from imapclient.exceptions import ProtocolError
from imapclient.response_parser import parse_response

Chunk = bytes | tuple[bytes, bytes]  # a piece of a line, with the literal that follows it


@dataclass(frozen=True, slots=True)
class Untagged:
    """An answer such as `* 12 FETCH (…)`: number 12, kind FETCH, and the rest."""

    kind: str
    number: int
    chunks: tuple[Chunk, ...] = field(repr=False)

    def parsed(self) -> tuple[object, ...]:
        """The rest as nested tuples. Raises `ValueError` where it makes no sense."""
        try:
            found: tuple[object, ...] = parse_response(list(self.chunks))
        except ProtocolError as error:
            raise ValueError(str(error)) from None
        return found

    def raw(self) -> bytes:
        return b"".join(b"".join(one) if isinstance(one, tuple) else one for one in self.chunks)


@dataclass(frozen=True, slots=True)
class Literal:
    """An argument that may hold any byte."""

    data: bytes = field(repr=False)


def take_apart(chunks: Sequence[Chunk], tag: bytes) -> Untagged:
    first = chunks[0][0] if isinstance(chunks[0], tuple) else chunks[0]
    mark, _, rest = first.partition(b" ")
    if mark != b"*":
        kind, number = mark.decode(errors="replace"), 0
        if mark != tag and not mark.startswith(b"+"):
            raise ValueError("an answer out of turn")
    else:
        word, _, rest = rest.partition(b" ")
        number = int(word) if word.isdigit() else 0
        if word.isdigit():
            word, _, rest = rest.partition(b" ")
        kind = word.decode(errors="replace").upper()
    head: Chunk = (rest, chunks[0][1]) if isinstance(chunks[0], tuple) else rest
    return Untagged(kind, number, (head, *chunks[1:]))


def mailbox(name: str) -> bytes:
    """A folder's name as an argument (modified UTF-7, RFC 3501 5.1.3)."""
    encoded: bytes = imap_utf7.encode(name)
    return b'"' + encoded.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def uid_set(uids: Sequence[int]) -> bytes:
    """UIDs as a set, neighbours as ranges: 1:3,7."""
    runs: list[list[int]] = []
    for uid in sorted(uids):
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in runs)


def number_of(name: str, text: str) -> int:
    found = re.search(rf"\[{name} (\d+)\]", text)
    return int(found[1]) if found else 0


def words(line: bytes, tag: bytes) -> str:
    """What a tagged line says after NO or BAD."""
    return line[len(tag) :].decode(errors="replace").strip().partition(" ")[2]


def said(error: BaseException) -> str:
    return str(error) or type(error).__name__
