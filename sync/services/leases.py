"""The leases of accounts that a process watches: renewed and given back many at a time.

A lease is an epoch and the time until which nobody else claims the account (`next_due_at`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction

from sync import sql
from sync.services.rows import notify
from sync.types import Lease, Work

# Three renewals may be missed before others take the account for lost.
LEASE_S = 90.0


@dataclass(frozen=True, slots=True)
class Held:
    """A lease, and when its platform last said that there is nothing more, or None."""

    lease: Lease
    synced_at: datetime | None


@dataclass(frozen=True, slots=True)
class Told:
    """What its row says of an account that is still ours."""

    is_locked: bool  # something else writes it: it was not renewed, try again soon
    work: frozenset[Work]  # that waits beside reading
    is_server_troubled: bool  # it failed others; that it answers is news


def renew(held: Sequence[Held], now: datetime) -> dict[int, Told]:
    """Renew leases in one statement and write the accounts' status [S7]; by account, those that are
    still ours. One that is due already stays due: somebody asked for it.
    """
    if not held:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            sql.claims.RENEW,
            {
                "now": now,
                "until": now + timedelta(seconds=LEASE_S),
                "ids": [one.lease.account_id for one in held],
                "epochs": [one.lease.epoch for one in held],
                "synced": [one.synced_at for one in held],
            },
        )
        return {
            account_id: Told(is_locked, frozenset(map(Work, work)), is_troubled)
            for account_id, is_locked, work, is_troubled in cursor.fetchall()
        }


def give_back(leases: Sequence[Lease], at: datetime) -> None:
    """Give claims back, to be taken again at a given time. One that is stale is left alone."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            sql.claims.RELEASE,
            {
                "at": at,
                "ids": [one.account_id for one in leases],
                "epochs": [one.epoch for one in leases],
            },
        )
        notify(0)
