"""Cutting what one answer brought into batches of bounded rows and bytes [S3]."""

from __future__ import annotations

from collections.abc import Sequence

from sync.batches import slices, sorted_out
from sync.platforms.xmpp.place import Place
from sync.types import Batch
from sync.weights import Row


def cut(rows: Sequence[Row], before: Place, after: Place) -> list[Batch]:
    """Only the last batch carries the place `after` the answer: a crash between them reads the
    answer again and never skips [S4]. No batch at all when the answer changed nothing."""
    pieces = list(slices(rows))
    last = len(pieces) - 1
    if pieces == [()] and before == after:
        return []
    owed, left = after.remaining(), len(rows)
    batches = []
    for index, piece in enumerate(pieces):
        records, refused = sorted_out(piece)
        left -= len(piece)
        place = after if index == last else before
        batches.append(
            Batch(
                cursor=place.text(),
                records=records,
                refused=refused,
                more=index < last or after.owed() is not None,
                gaps=place.open_gaps(),
                remaining=None if owed is None else owed + left,
            )
        )
    return batches
