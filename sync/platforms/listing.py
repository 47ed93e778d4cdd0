"""Listings of ids by windows of time, for adapters whose platform lists by something else [S9]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from sync.types import Listing, RecordKind

WINDOW = 1000  # ids


def windows(
    kind: RecordKind,
    found: Iterable[tuple[datetime, str, str]],
    since: datetime,
    until: datetime,
) -> Iterator[Listing]:
    """All of [since, until) by windows of bounded size without a hole, the newest first.

    `found`: when, id and version of each; an id that is there twice counts once.
    """
    once = {name: (when, name, version) for when, name, version in found if since <= when < until}
    rest = sorted(once.values(), reverse=True)
    while len(rest) > WINDOW:
        edge = rest[WINDOW - 1][0]
        some = [one for one in rest if one[0] >= edge]
        yield _listing(kind, some, edge, until)
        rest, until = rest[len(some) :], edge
    yield _listing(kind, rest, since, until)


def _listing(
    kind: RecordKind, some: Iterable[tuple[datetime, str, str]], since: datetime, until: datetime
) -> Listing:
    return Listing(kind, "", since, until, {name: version for _when, name, version in some})
