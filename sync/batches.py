"""Bounded batches [S3]: at most so many rows and bytes are written in one transaction.

The bounds are settings (`MUSTER_BATCH_ROWS`, `MUSTER_BATCH_BYTES`). `bounded` is asked for each
batch before it is merged, whatever adapter it came from; `slices` serves adapters that cut what an
answer brought themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from django.conf import settings

from sync.types import Batch, Record, Refused
from sync.weights import Row, weight


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one batch."""

    rows: int
    size: int  # bytes


def bounds() -> Bounds:
    """Those of this installation."""
    return Bounds(settings.MUSTER_BATCH_ROWS, settings.MUSTER_BATCH_BYTES)


def bounded(batch: Batch) -> Iterator[tuple[Batch, int]]:
    """The batch in pieces within the bounds, in order, each with about how many bytes it has;
    mostly it is one piece, itself.

    Only the last piece carries the cursor and the open gaps: killed between them, the batch is read
    again, and what was written counts as same.
    """
    limit = bounds()
    rows: tuple[Row, ...] = (*batch.records, *batch.refused)
    size = sum(map(weight, rows))
    if len(rows) <= limit.rows and size <= limit.size:
        yield batch, size
        return
    pieces = list(slices(rows))
    for number, piece in enumerate(pieces, start=1):
        records, refused = sorted_out(piece)
        size = sum(map(weight, piece))
        if number == len(pieces):
            yield replace(batch, records=records, refused=refused), size
        else:
            yield Batch(None, records, refused, more=True, fetched=batch.fetched), size


def slices(rows: Iterable[Row], limit: Bounds | None = None) -> Iterator[tuple[Row, ...]]:
    """`rows` in order, in slices within the bounds; at least one slice, maybe empty.

    One row alone may pass the limit of bytes: it can't be cut. The merge makes a dead letter of it.
    """
    limit = limit or bounds()
    piece: list[Row] = []
    size = 0
    for row in rows:
        row_size = weight(row)
        if piece and (len(piece) >= limit.rows or size + row_size > limit.size):
            yield tuple(piece)
            piece, size = [], 0
        piece.append(row)
        size += row_size
    yield tuple(piece)


def sorted_out(rows: Iterable[Row]) -> tuple[tuple[Record, ...], tuple[Refused, ...]]:
    """The records, and the refusals."""
    kept = tuple(rows)
    return (
        tuple(row for row in kept if not isinstance(row, Refused)),
        tuple(row for row in kept if isinstance(row, Refused)),
    )
