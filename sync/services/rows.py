"""What the writes on accounts share: the lease that fences a check's reports, and NOTIFY."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from sync import sql
from sync.errors import StaleEpoch
from sync.merge import clean
from sync.models import Account
from sync.types import Lease

ACCOUNTS = (
    "muster_accounts"  # the channel that wakes the master's duty; payload: account id, 0: all
)


LONGEST_ERROR = 2000  # characters


def shown(error: str) -> str:
    """An error as a column holds it."""
    return clean(error, LONGEST_ERROR)


def notify(account_id: int) -> None:
    """Wake the master's duty when this transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute(sql.feed.NOTIFY, [ACCOUNTS, str(account_id)])


def ask_now(account: Account, now: datetime | None = None) -> None:
    """A person wants the platform asked: whatever it waits for. The caller saves `next_due_at`,
    `not_before`, `asks_at`."""
    account.next_due_at = now or timezone.now()
    account.not_before = account.asks_at = None


def report(lease: Lease, **values: Any) -> None:
    """Set columns of the account's row. Raises `StaleEpoch`."""
    rows = Account.objects.filter(pk=lease.account_id, epoch=lease.epoch)
    if not rows.update(**values):
        raise stale(lease)


@contextmanager
def held(lease: Lease) -> Iterator[Account]:
    """The account's row, locked, if the lease is still worth something."""
    with transaction.atomic():
        rows = Account.objects.select_for_update(no_key=True).defer("credentials", "session")
        account = rows.filter(pk=lease.account_id, epoch=lease.epoch).first()
        if account is None:
            raise stale(lease)
        yield account


@contextmanager
def locked(account_id: int) -> Iterator[Account]:
    """The account's row, locked for what a person changes. Raises `Account.DoesNotExist`."""
    with transaction.atomic():
        rows = Account.objects.select_for_update(no_key=True).defer("credentials", "session")
        yield rows.get(pk=account_id)


def stale(lease: Lease) -> StaleEpoch:
    epochs = Account.objects.filter(pk=lease.account_id).values_list("epoch", flat=True)
    return StaleEpoch(lease.account_id, lease.epoch, epochs.first())
