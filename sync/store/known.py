"""Messages that the store holds to the letter: found first, and nothing more is done for them.
Nor for immutable ones whose first is there; what says something else than it is refused.

A platform's pages overlap, and an account that is read anew repeats all it has. With the account's
row locked, what is found stays so until the commit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

import psycopg
from django.db import connection

from sync import sql
from sync.originals import Fate, fate, refusal
from sync.types import Attachment, MessageRecord, Refused

# As `sql.messages.STORED_MESSAGES` returns them; attachments come last.
SAID = (
    *("conversation_id", "sender_id", "sender_name", "text", "content_type"),
    *("direction", "sent_at", "edited_at", "is_deleted"),
)
_said = attrgetter(*SAID)


@dataclass(frozen=True, slots=True)
class Split:
    """Messages by what is there."""

    messages: tuple[MessageRecord, ...]  # to be written: they differ, or are not there
    stored: dict[str, int]  # ids by external id, of all that are there
    refused: tuple[Refused, ...] = ()


def split_known(account_id: int, messages: Sequence[MessageRecord]) -> Split:
    if not messages:
        return Split((), {})
    rows = _read(account_id, [one.external_id for one in messages])
    stored = {external_id: row[0] for external_id, row in rows.items()}
    if not stored:
        return Split(tuple(messages), stored)
    written: list[MessageRecord] = []
    refused: list[Refused] = []
    for message in messages:
        row = rows.get(message.external_id)
        if _is_held(message, row):
            continue
        if row is None or not message.is_immutable:
            written.append(message)
            continue
        first = _message(row)
        match fate(first, message):
            case Fate.WRITE:
                written.append(message)
            case Fate.REFUSE:
                refused.append(refusal(first, message))
    return Split(tuple(written), stored, tuple(refused))


def _read(account_id: int, external_ids: list[str]) -> dict[str, tuple[Any, ...]]:
    """The rows of `sql.messages.STORED_MESSAGES` by external id."""
    given = {"account": account_id, "ids": json.dumps(external_ids)}
    with (
        connection.wrap_database_errors,
        # Not Django's: it reads text, and each time by a function of its own (1.6 ms more).
        psycopg.Cursor(connection.connection) as cursor,
    ):
        cursor.execute(sql.messages.STORED_MESSAGES, given, binary=True)
        return {row[1]: row for row in cursor.fetchall()}


def _is_held(message: MessageRecord, row: tuple[Any, ...] | None) -> bool:
    return (
        row is not None
        and row[2:-1] == _said(message)
        and (row[-1] or []) == attachments_of(message)
    )


def _message(row: tuple[Any, ...]) -> MessageRecord:
    """A row as the record that it was."""
    files = tuple([Attachment(**one) for one in row[-1] or []])
    said = dict(zip(SAID, row[2:-1], strict=True))
    return MessageRecord(external_id=row[1], attachments=files, **said)


def attachments_of(message: MessageRecord) -> list[dict[str, Any]]:
    """As the column holds them."""
    return [asdict(one) for one in message.attachments] if message.attachments else []
