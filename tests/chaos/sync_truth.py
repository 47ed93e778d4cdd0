"""What the fake platform holds against what is stored, row for row."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import psycopg
from psycopg.rows import dict_row

from sync.types import (
    CommentRecord,
    ConversationRecord,
    MessageRecord,
    PostRecord,
    Record,
)
from tests.fake.process import FakeServer
from tests.fake.records import read_record

Rows = dict[tuple[str, str], dict[str, Any]]  # by kind and external id

STORED = {
    "conversation": "SELECT external_id, title, is_group FROM sync_conversation c",
    "message": """
        SELECT c.external_id, t.external_id AS conversation_id, sender_id, sender_name, text,
               sent_at, direction, content_type, attachments, edited_at, is_deleted
        FROM sync_message c JOIN sync_conversation t ON t.id = c.conversation_id""",
    "post": """
        SELECT external_id, author_id, author_name, title, text, url, published_at, edited_at,
               is_deleted
        FROM sync_post c""",
    "comment": """
        SELECT c.external_id, p.external_id AS post_id, parent_external_id AS parent_id,
               c.author_id, c.author_name, c.text, c.published_at, direction, c.edited_at,
               c.is_deleted
        FROM sync_comment c JOIN sync_post p ON p.id = c.post_id""",
}
KINDS: dict[type[Record], str] = {
    ConversationRecord: "conversation",
    MessageRecord: "message",
    PostRecord: "post",
    CommentRecord: "comment",
}


def held(server: FakeServer, user: str) -> tuple[Rows, set[str]]:
    """What the platform holds of an account, and the ids of what nobody can read."""
    truth = server.control("truth", user=user)
    rows: Rows = {}
    for kind in KINDS.values():
        for wire in truth[kind].values():
            record = read_record(wire)
            assert not hasattr(record, "error"), record
            rows[kind, record.external_id] = _plain(record)
    return rows, set(truth["unreadable"])


def stored(database: psycopg.Connection[Any], account_id: int) -> tuple[Rows, list[str]]:
    """What we hold of an account, and the external ids of its dead letters."""
    rows: Rows = {}
    with database.cursor(row_factory=dict_row) as cursor:
        for kind, statement in STORED.items():
            for row in cursor.execute(f"{statement} WHERE c.account_id = %s", [account_id]):
                assert (kind, row["external_id"]) not in rows, f"{kind} {row['external_id']} twice"
                rows[kind, row["external_id"]] = row
    letters = database.execute(
        "SELECT external_id FROM sync_deadletter WHERE account_id = %s", [account_id]
    )
    return rows, [row[0] for row in letters]


def differences(truth: Rows, store: Rows) -> list[str]:
    """For people; empty when both are the same."""
    found = [f"{key} is lost" for key in truth.keys() - store.keys()]
    found += [f"{key} is nowhere on the platform" for key in store.keys() - truth.keys()]
    for key in truth.keys() & store.keys():
        wrong = {
            name: (value, store[key][name])
            for name, value in truth[key].items()
            if store[key][name] != value
        }
        if wrong:
            found.append(f"{key} differs: {wrong}")
    return found


def _plain(record: Any) -> dict[str, Any]:
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    values.pop("is_immutable", None)  # says how it is stored, and is not
    if "attachments" in values:
        values["attachments"] = [asdict(one) for one in record.attachments]
    return values
