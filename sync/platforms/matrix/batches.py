"""Cutting what was read into batches of bounded rows and bytes [S3]. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sync.platforms.matrix.place import Place
from sync.types import Batch, MessageRecord, Record, Refused

ROW_LIMIT = 500
BYTE_LIMIT = 512 * 1024
ROW_OVERHEAD = 300  # bytes: ids, times and names of a row, roughly

Row = Record | Refused


def cut(rows: Iterable[Row], before: Place, after: Place) -> list[Batch]:
    """The rows of one answer as batches. Only the last one carries the place `after` the answer:
    a crash between them reads the answer again and never skips [S4].

    No batch at all when the answer changed nothing.
    """
    pieces = list(slices(rows))
    last = len(pieces) - 1
    if pieces == [()] and before == after:
        return []
    return [
        Batch(
            cursor=(after if index == last else before).text(),
            records=tuple(row for row in piece if not isinstance(row, Refused)),
            refused=tuple(row for row in piece if isinstance(row, Refused)),
            more=index < last or bool(after.gaps),
            gaps=(after if index == last else before).open_gaps(),
            remaining=None if index < last or after.gaps else 0,
        )
        for index, piece in enumerate(pieces)
    ]


def slices(
    rows: Iterable[Row], row_limit: int = ROW_LIMIT, byte_limit: int = BYTE_LIMIT
) -> Iterator[tuple[Row, ...]]:
    """`rows` in order, in slices within both limits; at least one slice, maybe empty.

    One row alone may pass the byte limit: it can't be cut, and it is never left out.
    """
    batch: list[Row] = []
    size = 0
    for row in rows:
        row_size = weight(row)
        if batch and (len(batch) >= row_limit or size + row_size > byte_limit):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(row)
        size += row_size
    yield tuple(batch)


def weight(row: Row) -> int:
    """About how many bytes a row takes in the store."""
    if isinstance(row, Refused):
        return ROW_OVERHEAD + len(row.raw)
    if isinstance(row, MessageRecord):
        files = sum(len(file.url) + len(file.name) + 100 for file in row.attachments)
        return ROW_OVERHEAD + len(row.text.encode()) + files
    return ROW_OVERHEAD
