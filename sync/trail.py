"""Who saw and changed what holds other people's words: Django's own history of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from sync import services
from sync.models import Gap, Reply


def leave_trail(user: Any, row: Model, what: str) -> None:
    """An entry in the row's history, shown by the admin's button “History”."""
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(row),
        object_id=str(row.pk),
        object_repr=str(row)[:200],
        action_flag=CHANGE,
        change_message=what,
    )


def act_on_reply(user: Any, reply_id: int, act: Callable[[int, str], Reply], what: str) -> Reply:
    """Do what an operator wants with a reply, with an entry in its history in the same transaction:
    none where it was refused, or somebody else had done it before. Raises as `act`."""
    with transaction.atomic():
        rows = Reply.objects.select_for_update(no_key=True)
        before = rows.values_list("state", flat=True).get(pk=reply_id)
        reply = act(reply_id, user.get_username())
        if reply.state != before:
            leave_trail(user, reply, what)
    return reply


def settle_gap(user: Any, gap: Gap, *, accept: bool) -> None:
    """Accept a gap as lost, or no longer, with an entry in its history. Raises as
    `services.accept_gap`."""
    with transaction.atomic():
        if accept and services.accept_gap(gap.pk, user.get_username(), timezone.now()):
            leave_trail(user, gap, "Accepted as lost.")
        elif not accept and services.reopen_gap(gap.pk):
            leave_trail(user, gap, "Reopened.")
    gap.refresh_from_db()
