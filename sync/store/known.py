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

# As `sql.messages.STORED_MESSAGES` returns them, behind three ids; attachments come last.
SAID = (
    *("sender_id", "sender_name", "text", "content_type"),
    *("direction", "sent_at", "edited_at", "is_deleted"),
)
_said = attrgetter(*SAID)


@dataclass(frozen=True, slots=True)
class Found:
    """What the store holds of a batch."""

    rows: dict[str, tuple[Any, ...]]  # of `sql.messages.STORED_MESSAGES`, by external id
    talks: dict[int, str]  # external ids of their conversations, by id

    def holds(self, message: MessageRecord) -> bool:
        """To the letter."""
        row = self.rows.get(message.external_id)
        return (
            row is not None
            and row[3:-1] == _said(message)
            and self.talks[row[2]] == message.conversation_id
            and (row[-1] or []) == attachments_of(message)
        )

    def first(self, external_id: str) -> MessageRecord | None:
        """The record that the row was, if there is one."""
        row = self.rows.get(external_id)
        if row is None:
            return None
        files = tuple([Attachment(**one) for one in row[-1] or []])
        said = dict(zip(SAID, row[3:-1], strict=True))
        talk = self.talks[row[2]]
        return MessageRecord(external_id, conversation_id=talk, attachments=files, **said)


@dataclass(frozen=True, slots=True)
class Split:
    """Messages by what is there."""

    messages: tuple[MessageRecord, ...]  # to be written: they differ, or are not there
    stored: dict[str, int]  # ids by external id, of all that are there
    refused: tuple[Refused, ...] = ()


def split_known(account_id: int, messages: Sequence[MessageRecord]) -> Split:
    if not messages:
        return Split((), {})
    found = _find(account_id, [one.external_id for one in messages])
    stored = {external_id: row[0] for external_id, row in found.rows.items()}
    if not stored:
        return Split(tuple(messages), stored)
    written: list[MessageRecord] = []
    refused: list[Refused] = []
    for message in messages:
        if found.holds(message):
            continue
        first = found.first(message.external_id) if message.is_immutable else None
        if first is None:
            written.append(message)
            continue
        match fate(first, message):
            case Fate.WRITE:
                written.append(message)
            case Fate.REFUSE:
                refused.append(refusal(first, message))
    return Split(tuple(written), stored, tuple(refused))


def _find(account_id: int, external_ids: list[str]) -> Found:
    given = {"account": account_id, "ids": json.dumps(external_ids)}
    with (
        connection.wrap_database_errors,
        # Not Django's: it reads text, and each time by a function of its own (1.6 ms more).
        psycopg.Cursor(connection.connection) as cursor,
    ):
        cursor.execute(sql.messages.STORED_MESSAGES, given, binary=True)
        rows = {row[1]: row for row in cursor.fetchall()}
        talks = list({row[2] for row in rows.values()})
        if talks:
            cursor.execute(sql.messages.NAMED_CONVERSATIONS, [talks], binary=True)
        return Found(rows, dict(cursor.fetchall()) if talks else {})


def attachments_of(message: MessageRecord) -> list[dict[str, Any]]:
    """As the column holds them."""
    return [asdict(one) for one in message.attachments] if message.attachments else []
