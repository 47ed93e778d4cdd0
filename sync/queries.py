"""Reads of accounts and what they hold, shaped for lists: no secrets loaded, no query per row."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from sync.models import Account, Conversation, Message, SyncRun
from sync.types import LoginState

SECRETS = ("credentials", "session")
SYNCING = Q(enabled=True, error_count=0, last_sync_at__isnull=False)
FAILING = Q(enabled=True) & (
    Q(error_count__gt=0) | Q(login_state__in=[LoginState.FAILED, LoginState.EXPIRED])
)


def accounts() -> QuerySet[Account]:
    """All accounts, each with its worker; secrets are not decrypted until somebody asks."""
    return Account.objects.select_related("worker__runtime").defer(*SECRETS, "cursor")


def failing() -> QuerySet[Account]:
    """Those that `totals` counts as failing, the latest error first."""
    return accounts().filter(FAILING).order_by(F("last_error_at").desc(nulls_last=True), "-pk")


def conversations() -> QuerySet[Conversation]:
    """All conversations, the latest first, each with its account."""
    return Conversation.objects.select_related("account").defer(
        *(f"account__{name}" for name in (*SECRETS, "cursor"))
    )


def messages(conversation_id: int) -> QuerySet[Message]:
    """The messages of a conversation, the latest first."""
    return Message.objects.filter(conversation_id=conversation_id)


def runs(account_id: int) -> QuerySet[SyncRun]:
    """The receipts of an account, the latest first."""
    return SyncRun.objects.filter(account_id=account_id)


def totals() -> dict[str, Any]:
    """What the home page shows, in one query.

    `syncing`: enabled accounts whose last check was good; `failing`: whose last one was not, or
    whose login is not.
    """
    return Account.objects.aggregate(
        accounts=Count("pk"),
        syncing=Count("pk", filter=SYNCING & ~FAILING),
        failing=Count("pk", filter=FAILING),
        conversations=Coalesce(Sum("conversations_total"), 0),
        messages=Coalesce(Sum("messages_total"), 0),
        posts=Coalesce(Sum("posts_total"), 0),
        comments=Coalesce(Sum("comments_total"), 0),
        unread=Coalesce(Sum("unread_total"), 0),
    )
