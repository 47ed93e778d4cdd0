"""Marking what was read: counters, the feed, and what the platform has still to be told [S10].

The platform is told by the account's check (`sync.errands.marks`); until then the conversation's
row says up to which message. Only the newest such mark counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import F
from django.db.models.functions import Now

from sync import feed, platforms, sql
from sync.models import Account, Conversation
from sync.types import RecordKind

MOST_ATTEMPTS = 12  # to tell a platform of one mark


@dataclass(frozen=True, slots=True)
class Untold:
    """A conversation that was read up to a message, of which the platform doesn't know yet."""

    conversation_id: int
    conversation: str  # external ids
    message_id: int
    message: str
    sent_at: datetime


def mark_read(conversation_id: int, up_to_message_id: int | None = None) -> int:
    """Mark a conversation read, up to a message of it or to its end; returns how many became so.

    Raises `Conversation.DoesNotExist`. A message of another conversation marks nothing.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        account_id = Conversation.objects.values_list("account_id", flat=True).get(
            pk=conversation_id
        )
        cursor.execute(sql.books.LOCK_ACCOUNT, [account_id])
        cursor.execute(
            sql.marks.MARK_READ, {"conversation": conversation_id, "upto": up_to_message_id}
        )
        marked: int = cursor.rowcount
        if marked:
            Conversation.objects.filter(pk=conversation_id).update(
                unread_count=F("unread_count") - marked, updated_at=Now()
            )
            Account.objects.filter(pk=account_id).update(unread_total=F("unread_total") - marked)
            _tell(cursor, account_id, [conversation_id], up_to_message_id)
    return marked


def mark_all_read(account_id: int | None = None) -> int:
    """Mark everything of an account, or of all accounts, read; returns how many messages became so.

    One transaction for each account, so that none waits for all.
    """
    accounts = Account.objects.filter(unread_total__gt=0).order_by("pk")
    if account_id is not None:
        accounts = accounts.filter(pk=account_id)
    return sum(_mark_account_read(pk) for pk in list(accounts.values_list("pk", flat=True)))


def untold(account_id: int, most: int = 100) -> list[Untold]:
    """What the account's platform has still to be told: what was tried least, then the longest
    known conversations first."""
    with connection.cursor() as cursor:
        cursor.execute(sql.marks.UNTOLD_READ, [account_id, most])
        return [Untold(*row) for row in cursor.fetchall()]


def told(mark: Untold) -> None:
    """The platform knows of this mark, or never will; a newer one stays."""
    Conversation.objects.filter(pk=mark.conversation_id, untold_read_id=mark.message_id).update(
        untold_read_id=None
    )


def not_told(mark: Untold) -> bool:
    """The platform could not be told; whether it will be tried again: `MOST_ATTEMPTS` in all. A
    newer mark stays as it is."""
    rows = Conversation.objects.filter(pk=mark.conversation_id, untold_read_id=mark.message_id)
    rows.update(untold_attempts=F("untold_attempts") + 1)
    return not rows.filter(untold_attempts__gte=MOST_ATTEMPTS).update(untold_read_id=None)


def _mark_account_read(account_id: int) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.books.LOCK_ACCOUNT, [account_id])
        cursor.execute(sql.marks.MARK_ALL_READ, [account_id])
        marked: int = cursor.rowcount
        if marked:
            unread = Conversation.objects.filter(account_id=account_id, unread_count__gt=0)
            read = list(unread.order_by("pk").values_list("pk", flat=True))
            unread.update(unread_count=0, updated_at=Now())
            Account.objects.filter(pk=account_id).update(unread_total=0)
            _tell(cursor, account_id, read)
    return marked


def _tell(
    cursor: CursorWrapper, account_id: int, read: Sequence[int], up_to: int | None = None
) -> None:
    """People by the feed, and the platform if it takes such marks."""
    feed.append(account_id, {RecordKind.CONVERSATION: {"read": read}})
    name = Account.objects.values_list("platform", flat=True).get(pk=account_id)
    platform = platforms.registry().get(name)
    if platform is not None and platform.marks_read:
        cursor.execute(sql.marks.QUEUE_MARKS, {"ids": list(read), "upto": up_to})
