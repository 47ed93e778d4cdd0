"""Messages that nobody can change once they are sent: mails. The first with an id stays.

A mail's id is what its writer says it is, and all who got the mail know it. So another one with the
same id is no edit. It is the same mail come by another way (the copy among the sent mails, the one
that a list sent on with its footer), or another mail: of a device that numbers nothing, or of
somebody who wants to be read in the place of another. Pure.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from enum import Enum, auto
from hashlib import sha256

from sync.types import MessageRecord, RawShape, RecordKind, Refused

# Between two copies of a mail whose clock went ahead of the server's: each counts as sent when it
# arrived.
CLOCKS = timedelta(minutes=1)
COMPARED = 20_000  # characters
SHINGLE = 5  # characters: two texts of one language share hardly any by chance
LONGEST_NAMED = 400  # characters of an id with a digest behind it


class Fate(Enum):
    """Of a message whose id is known."""

    WRITE = auto()  # the same, or deleted, or back: the rules for all messages apply
    KEEP = auto()  # the same by another way: what is known says it
    REFUSE = auto()  # another one


def fate(first: MessageRecord, other: MessageRecord) -> Fate:
    """What to do with `other`, that is immutable, where `first` is known."""
    is_of_then = abs(first.sent_at - other.sent_at) <= CLOCKS
    is_of_them = is_of_then and first.sender_id == other.sender_id
    if other.is_deleted or (first.is_deleted and is_of_them):
        return Fate.WRITE
    if is_of_them and first.text == other.text and files(first) == files(other):
        return Fate.WRITE  # its files may lie elsewhere by now
    is_same = is_of_then and not first.is_deleted and is_alike(first.text, other.text)
    return Fate.KEEP if is_same else Fate.REFUSE


def files(message: MessageRecord) -> list[tuple[str, str, int | None]]:
    return [(one.name, one.media_type, one.size) for one in message.attachments]


def is_alike(one: str, other: str) -> bool:
    """Whether two texts are one: with a footer, or laid out by another release of ours."""
    mine, theirs = shingles(one), shingles(other)
    return 2 * len(mine & theirs) >= min(len(mine), len(theirs))


def shingles(text: str) -> set[str]:
    joined = "".join(text[:COMPARED].split())
    return {joined[at : at + SHINGLE] for at in range(max(len(joined) - SHINGLE + 1, 1))}


def refusal(first: MessageRecord, other: MessageRecord) -> Refused:
    """A dead letter for each that says something else, however often it is read."""
    said = (other.sender_id, other.sent_at.isoformat(), other.text, files(other))
    digest = sha256(json.dumps(said).encode()).hexdigest()[:16]
    return Refused(
        kind=RecordKind.MESSAGE,
        external_id=f"{other.external_id[:LONGEST_NAMED]} {digest}",
        raw=json.dumps(asdict(other), default=str),
        error=(
            f"another message with the id {other.external_id} is known, from "
            f"{first.sender_id or 'nobody'} at {first.sent_at:%Y-%m-%d %H:%M} UTC. That one stays; "
            "this one says something else: read it here, and discard it"
        ),
        shape=RawShape.RECORD,
    )
