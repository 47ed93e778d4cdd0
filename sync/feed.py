"""The feed [S10]: one entry for each commit that changes something people see.

Entries are read in the order of their commits, without a hole: who has read position 7 and asks for
what is above it misses nothing, however many writers there are (docs/adr/0011-feed.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db import connection

from sync import sql
from sync.errors import FeedPruned
from sync.models import FeedEntry

# {kind: {operation: [ids]}}, e.g. {"message": {"new": [1, 2]}, "conversation": {"changed": [7]}}
Changes = Mapping[str, Mapping[str, Sequence[int]]]

CHANNEL = "muster_feed"  # notified with each entry's position, at commit, by the trigger


def append(account_id: int, changes: Changes) -> None:
    """Tell of changes, in the transaction that makes them. Empty lists are left out; none at all
    makes no entry."""
    if said := spoken(changes):
        FeedEntry.objects.create(account_id=account_id, changes=said)


def spoken(changes: Changes) -> Changes:
    """Without what is empty."""
    return {
        kind: filled
        for kind, operations in changes.items()
        if (filled := {name: list(ids) for name, ids in operations.items() if ids})
    }


def head() -> int:
    """The position of the newest entry, 0 when there was never one."""
    return _ends()[1]


def read_after(position: int, most: int) -> list[FeedEntry]:
    """The next entries above a position, oldest first.

    Raises `FeedPruned` when some of them were deleted already, or the position is none of ours.
    """
    entries = list(FeedEntry.objects.filter(position__gt=position).order_by("position")[:most])
    floor, newest = _ends()  # asked second: what was pruned in between is noticed
    if position < floor or position > newest:
        raise FeedPruned(position, newest)
    return entries


def read_last(most: int) -> list[FeedEntry]:
    """The newest entries, oldest first."""
    rows = FeedEntry.objects.filter(position__isnull=False).order_by("-position")
    return list(rows[:most])[::-1]


def prune(before: datetime, most: int = 5000) -> int:
    """Delete entries that are older, about so many at a time; returns how many. Keeps the order:
    below the last one that is deleted, none stays."""
    with connection.cursor() as cursor:
        cursor.execute(sql.feed.PRUNE_FEED, {"before": before, "most": most})
        row = cursor.fetchone()
    return int(row[0])


def _ends() -> tuple[int, int]:
    """Up to where it was pruned, and its newest position."""
    with connection.cursor() as cursor:
        cursor.execute(sql.feed.FEED_ENDS)
        floor, newest = cursor.fetchone()
    return int(floor), int(newest)
