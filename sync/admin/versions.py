"""What records said before, beside what they say now [S4]."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.safestring import SafeString

from lifecycle.console.live import moment
from sync import queries
from sync.models import Comment, Message, Post, RecordVersion
from sync.types import RecordKind

# Text, and until when it said so; the newest first.
Former = Sequence[tuple[str, SafeString | str]]


def former(kind: RecordKind, rows: Sequence[Message | Post | Comment]) -> dict[int, Former]:
    """By database id, of those that were changed: one query."""
    found: dict[int, list[tuple[str, SafeString | str]]] = {}
    for version in queries.versions(kind, [row.pk for row in rows]):
        found.setdefault(version.record_id, []).append(
            (_text(version), moment(version.replaced_at))
        )
    return {**found}


def _text(version: RecordVersion) -> str:
    said = version.content
    title, text = said.get("title") or "", said.get("text") or ""
    return "\n".join(filter(None, (title, text))) or str(said.get("content_type") or "")
