"""What a feed entry means for people: the rows that changed, and what is unread now.

Rows are as they are at the time of reading, thus never older than their entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Sum

from sync import queries
from sync.models import Account, Conversation, FeedEntry, Message

# A console that gets more than so many rows at once is told to load its lists anew.
MOST_CONVERSATIONS = 50
MOST_MESSAGES = 200


@dataclass(frozen=True, slots=True)
class Unread:
    """Unread messages: all, by platform, and of the accounts that were asked for."""

    total: int
    platforms: Mapping[str, int]
    accounts: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class News:
    """One feed entry with what people see of it.

    `conversations`: the rows that are new, changed or read, the first 50 of them. `messages`:
    conversation → operation → ids of its messages, of 200 messages at most. `is_whole`: nothing
    was left out for being too much.
    """

    position: int
    account_id: int
    at: datetime
    changes: Mapping[str, Mapping[str, Sequence[int]]]
    conversations: Sequence[Conversation] = ()
    messages: Mapping[int, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    unread: Unread | None = None
    is_whole: bool = True


Renderer = Callable[[News], bytes]  # one entry as a server-sent event; equal ones are rendered once


def expand(entries: Sequence[FeedEntry]) -> list[News]:
    """The entries with their rows: five queries, however many there are."""
    shown = {entry.pk: _ids(entry, "conversation")[:MOST_CONVERSATIONS] for entry in entries}
    rows = queries.conversations().in_bulk({pk for ids in shown.values() for pk in ids})
    spoken = {pk for entry in entries for pk in _ids(entry, "message")[:MOST_MESSAGES]}
    places = dict(Message.objects.filter(pk__in=spoken).values_list("pk", "conversation_id"))
    totals = unread({entry.account_id for entry in entries})
    return [
        News(
            position=entry.position or 0,
            account_id=entry.account_id,
            at=entry.created_at,
            changes=entry.changes,
            conversations=[rows[pk] for pk in shown[entry.pk] if pk in rows],
            messages=_by_conversation(entry, places),
            unread=totals,
            is_whole=len(_ids(entry, "conversation")) <= MOST_CONVERSATIONS
            and len(_ids(entry, "message")) <= MOST_MESSAGES,
        )
        for entry in entries
    ]


def unread(account_ids: set[int]) -> Unread:
    """What is unread now. An account that is gone has none."""
    platforms = Account.objects.order_by().values_list("platform").annotate(Sum("unread_total"))
    by_platform = {name: int(count) for name, count in platforms}
    accounts = Account.objects.filter(pk__in=account_ids).values_list("pk", "unread_total")
    return Unread(
        sum(by_platform.values()), by_platform, dict.fromkeys(account_ids, 0) | dict(accounts)
    )


def _ids(entry: FeedEntry, kind: str) -> list[int]:
    """The ids of a kind, over all operations, each once."""
    operations = entry.changes.get(kind, {})
    return list(dict.fromkeys(pk for ids in operations.values() for pk in ids))


def _by_conversation(
    entry: FeedEntry, places: Mapping[int, int]
) -> dict[int, dict[str, list[int]]]:
    found: dict[int, dict[str, list[int]]] = {}
    for operation, ids in entry.changes.get("message", {}).items():
        for pk in ids:
            if pk in places:
                found.setdefault(places[pk], {}).setdefault(operation, []).append(pk)
    return found
