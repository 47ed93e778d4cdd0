"""What people do with gaps that nothing closes: accept them as lost, or not any more [S9]."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from sync import feed
from sync.errors import Rejected
from sync.models import Account, Gap


def accept_gap(gap_id: int, by: str, now: datetime) -> bool:
    """What is missing is lost, and known to be: it no longer keeps audits from calling the rest
    complete. Should it come after all, the gap closes. False: it was accepted before.

    Raises `Gap.DoesNotExist`, `Rejected` when it is closed.
    """
    with _open(gap_id) as gap:
        if gap.accepted_at is not None:
            return False
        _set(gap, now, by)
    return True


def reopen_gap(gap_id: int) -> bool:
    """Undo that; False: it was not accepted. Raises `Gap.DoesNotExist`, `Rejected` when it is
    closed."""
    with _open(gap_id) as gap:
        if gap.accepted_at is None:
            return False
        _set(gap, None, "")
    return True


@contextmanager
def _open(gap_id: int) -> Iterator[Gap]:
    """The gap and its account, locked in the order in which batches lock them."""
    with transaction.atomic():
        account_id = Gap.objects.values_list("account_id", flat=True).get(pk=gap_id)
        Account.objects.select_for_update(no_key=True).only("pk").get(pk=account_id)
        gap = Gap.objects.select_for_update(no_key=True).get(pk=gap_id)
        if gap.closed_at is not None:
            raise Rejected(_("The gap is closed: what was missing is stored."))
        yield gap


def _set(gap: Gap, at: datetime | None, by: str) -> None:
    gap.accepted_at, gap.accepted_by = at, by[:150]
    gap.save(update_fields=["accepted_at", "accepted_by"])
    feed.append(gap.account_id, {"account": {"changed": [gap.account_id]}})
