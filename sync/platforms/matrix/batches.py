"""Cutting what one answer brought into batches of bounded rows and bytes [S3]."""

from __future__ import annotations

from collections.abc import Iterable

from sync.batches import slices, sorted_out
from sync.platforms.matrix.place import Place
from sync.types import Batch
from sync.weights import Row


def cut(rows: Iterable[Row], before: Place, after: Place) -> list[Batch]:
    """The rows of one answer as batches. Only the last one carries the place `after` the answer:
    a crash between them reads the answer again and never skips [S4].

    No batch at all when the answer changed nothing.
    """
    pieces = list(slices(rows))
    last = len(pieces) - 1
    if pieces == [()] and before == after:
        return []
    batches = []
    for index, piece in enumerate(pieces):
        records, refused = sorted_out(piece)
        batches.append(
            Batch(
                cursor=(after if index == last else before).text(),
                records=records,
                refused=refused,
                more=index < last or bool(after.gaps),
                gaps=(after if index == last else before).open_gaps(),
                remaining=None if index < last or after.gaps else 0,
            )
        )
    return batches
