"""Messages that the store holds to the letter: found first, and nothing more is done for them.

A platform's pages overlap, and an account that is read anew repeats all it has. With the account's
row locked, what is found stays so until the commit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any

import psycopg
from django.db import connection

from sync import sql
from sync.types import MessageRecord

# As `sql.messages.STORED_MESSAGES` returns them; attachments come last.
SAID = (
    *("conversation_id", "sender_id", "sender_name", "text", "content_type"),
    *("direction", "sent_at", "edited_at", "is_deleted"),
)
_said = attrgetter(*SAID)


def split_known(
    account_id: int, messages: Sequence[MessageRecord]
) -> tuple[tuple[MessageRecord, ...], dict[str, int]]:
    """The messages that differ from what is stored or are not there, and the ids by external id of
    all that are there."""
    if not messages:
        return (), {}
    stored = _read(account_id, [one.external_id for one in messages])
    ids = {external_id: row[0] for external_id, row in stored.items()}
    if not ids:
        return tuple(messages), ids
    return tuple([m for m in messages if not _is_held(m, stored.get(m.external_id))]), ids


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


def attachments_of(message: MessageRecord) -> list[dict[str, Any]]:
    """As the column holds them."""
    return [asdict(one) for one in message.attachments] if message.attachments else []
