"""Marking what was read."""

from __future__ import annotations

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from sync import feed, sql
from sync.models import Account, Conversation
from sync.types import RecordKind


def mark_read(conversation_id: int, up_to_message_id: int | None = None) -> int:
    """Mark a conversation read, up to a message of it or to its end; returns how many became so.

    Raises `Conversation.DoesNotExist`. A message of another conversation marks nothing.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        account_id = Conversation.objects.values_list("account_id", flat=True).get(
            pk=conversation_id
        )
        cursor.execute(sql.LOCK_ACCOUNT, [account_id])
        cursor.execute(sql.MARK_READ, {"conversation": conversation_id, "upto": up_to_message_id})
        marked: int = cursor.rowcount
        if marked:
            Conversation.objects.filter(pk=conversation_id).update(
                unread_count=F("unread_count") - marked, updated_at=Now()
            )
            Account.objects.filter(pk=account_id).update(unread_total=F("unread_total") - marked)
            feed.append(account_id, {RecordKind.CONVERSATION: {"read": [conversation_id]}})
    return marked


def mark_all_read(account_id: int | None = None) -> int:
    """Mark everything of an account, or of all accounts, read; returns how many messages became so.

    One transaction for each account, so that none waits for all.
    """
    accounts = Account.objects.filter(unread_total__gt=0).order_by("pk")
    if account_id is not None:
        accounts = accounts.filter(pk=account_id)
    return sum(_mark_account_read(pk) for pk in list(accounts.values_list("pk", flat=True)))


def _mark_account_read(account_id: int) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.LOCK_ACCOUNT, [account_id])
        cursor.execute(sql.MARK_ALL_READ, [account_id])
        marked: int = cursor.rowcount
        if marked:
            unread = Conversation.objects.filter(account_id=account_id, unread_count__gt=0)
            read = list(unread.order_by("pk").values_list("pk", flat=True))
            unread.update(unread_count=0, updated_at=Now())
            Account.objects.filter(pk=account_id).update(unread_total=0)
            feed.append(account_id, {RecordKind.CONVERSATION: {"read": read}})
    return marked
