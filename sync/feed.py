"""Writing the feed [S10]: one entry for each commit that changes something people see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sync.models import FeedEntry

# {kind: {operation: [ids]}}, e.g. {"message": {"new": [1, 2]}, "conversation": {"changed": [7]}}
Changes = Mapping[str, Mapping[str, Sequence[int]]]

CHANNEL = "muster_feed"  # notified with each entry's position, at commit, by the trigger


def append(account_id: int, changes: Changes) -> None:
    """Tell of changes, in the transaction that makes them. Empty lists are left out; none at all
    makes no entry."""
    said = {
        kind: filled
        for kind, operations in changes.items()
        if (filled := {name: list(ids) for name, ids in operations.items() if ids})
    }
    if said:
        FeedEntry.objects.create(account_id=account_id, changes=said)
