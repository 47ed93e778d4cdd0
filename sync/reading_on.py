"""Reading on where a platform no longer knows an account's cursor: from what, and what is said."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count, Max, Q, QuerySet
from django.db.models.functions import Coalesce

from sync.models import Account, Conversation, Gap, Post
from sync.types import KnownPost, LastKnown, OpenGap

# Stored as they stand, with the platform's own words behind them; see `sync.sentences`.
FROM_KNOWN = (
    "The platform no longer knows our cursor: reading on from the last messages and comments that "
    "we know."
)
FROM_START = "The platform no longer knows our cursor: reading all that it still has, anew."


def last_known(account_id: int) -> LastKnown | None:
    """None where the last messages and comments don't tell what we have: something below them is
    known to be missing, or there are none."""
    synced_at = Account.objects.values_list("last_sync_at", flat=True).get(pk=account_id)
    if synced_at is None or _unfilled(account_id).exists():
        return None
    found = LastKnown(_conversations(account_id, synced_at), _posts(account_id, synced_at))
    return found if found.conversations or found.posts else None


def unfilled_gaps(account_id: int) -> tuple[OpenGap, ...]:
    """What is known to be missing of what is read, also where somebody accepted it as lost."""
    fields = ("key", "scope", "newer_end", "older_end", "reason")
    return tuple(OpenGap(**row) for row in _unfilled(account_id).order_by("id").values(*fields))


def _unfilled(account_id: int) -> QuerySet[Gap]:
    """What only a webhook missed says nothing of what is read."""
    found = Gap.objects.filter(account_id=account_id, closed_at=None)
    return found.exclude(key__startswith="hooks:")


def _conversations(account_id: int, synced_at: datetime) -> dict[str, datetime]:
    rows = Conversation.objects.filter(account_id=account_id, last_message_at__isnull=False)
    found = rows.values_list("external_id", "last_message_at")
    return {id: min(at, synced_at) for id, at in found if at is not None}


def _posts(account_id: int, synced_at: datetime) -> dict[str, KnownPost]:
    rows = Post.objects.filter(account_id=account_id).order_by()
    found = rows.annotate(
        changed_at=Coalesce("edited_at", "published_at"),
        commented_at=Max("comments__published_at"),
        there=Count("comments", filter=Q(comments__is_deleted=False)),
    ).values_list("external_id", "changed_at", "commented_at", "there")
    return {
        id: KnownPost(min(changed_at, synced_at), last and min(last, synced_at), count)
        for id, changed_at, last, count in found
    }
