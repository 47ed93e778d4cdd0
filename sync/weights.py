"""About how many bytes a record takes in the store. Pure."""

from __future__ import annotations

from sync.types import (
    CommentRecord,
    ConversationRecord,
    MessageRecord,
    PostRecord,
    Record,
    Refused,
)

ROW_OVERHEAD = 300  # bytes: ids, times and names of a row, roughly
ATTACHMENT_OVERHEAD = 100

Row = Record | Refused


def weight(row: Row) -> int:
    """About how many bytes a row takes in the store."""
    match row:
        case MessageRecord(text=text, attachments=()):  # most rows
            return ROW_OVERHEAD + _size(text)
        case MessageRecord():
            files = sum(
                ATTACHMENT_OVERHEAD + _size(one.url) + _size(one.name) for one in row.attachments
            )
            return ROW_OVERHEAD + _size(row.text) + files
        case Refused():
            return ROW_OVERHEAD + _size(row.raw)
        case PostRecord():
            return ROW_OVERHEAD + _size(row.title) + _size(row.text) + _size(row.url)
        case CommentRecord():
            return ROW_OVERHEAD + _size(row.text)
        case ConversationRecord():
            return ROW_OVERHEAD
        case _:  # what no handler knows: the merge refuses it
            return ROW_OVERHEAD + _size(repr(row))


def _size(text: str) -> int:
    """Bytes in UTF-8, also of what could not be stored."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
