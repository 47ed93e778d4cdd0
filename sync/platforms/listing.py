"""Listings of ids by windows of time, for adapters whose platform lists by something else [S9]."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime

from sync.types import Listing, RecordKind

WINDOW = 1000  # ids

Dated = tuple[datetime, str, str]  # when, id, version


async def progressive(
    kind: RecordKind,
    pieces: AsyncIterator[tuple[Sequence[Dated], datetime]],
    since: datetime,
    until: datetime,
) -> AsyncIterator[Listing | None]:
    """As `windows`, while the platform is still being asked: each piece comes with the time from
    which on nothing more will come. None for a piece that makes no window yet."""
    pending: list[Dated] = []
    async for found, edge in pieces:
        pending += found
        edge = max(edge, since)
        if edge >= until or len(pending) < WINDOW:
            yield None
            continue
        for listing in windows(kind, pending, edge, until):
            yield listing
        pending = [one for one in pending if one[0] < edge]
        until = edge
    if since < until:
        for listing in windows(kind, pending, since, until):
            yield listing


def windows(
    kind: RecordKind,
    found: Iterable[Dated],
    since: datetime,
    until: datetime,
) -> Iterator[Listing]:
    """All of [since, until) by windows of bounded size without a hole, the newest first. An id that
    is there twice counts once."""
    once = {name: (when, name, version) for when, name, version in found if since <= when < until}
    rest = sorted(once.values(), reverse=True)
    while len(rest) > WINDOW:
        edge = rest[WINDOW - 1][0]
        some = [one for one in rest if one[0] >= edge]
        yield _listing(kind, some, edge, until)
        rest, until = rest[len(some) :], edge
    yield _listing(kind, rest, since, until)


def _listing(kind: RecordKind, some: Iterable[Dated], since: datetime, until: datetime) -> Listing:
    return Listing(kind, "", since, until, {name: version for _when, name, version in some})
