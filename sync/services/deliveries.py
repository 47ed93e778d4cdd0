"""Webhook deliveries: taken durably, processed once, counted [S13].

`addressed`, `take`, `keep_malformed` and `count` are for the web process that was called; the rest
is for the account's check.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from psycopg.types.json import Jsonb

from sync import feed, numbers, sql
from sync.models import Account, Gap, HookDelivery, HookEndpoint
from sync.platforms.base import Delivery
from sync.services.rows import held, notify, shown
from sync.store.books import keep_refused
from sync.types import AccountRef, DeliveryState, Lease, Refused

LONGEST_REJECTION = 300
# Keys of gaps; no batch closes those that begin with `hooks:`.
NUMBERS = "hooks:numbers:"  # `<first>-<last>`, both missing
MISSED = "hooks:missed:"  # since when


@dataclass(frozen=True, slots=True)
class Addressed:
    """The account that a request names."""

    ref: AccountRef
    enabled: bool


@dataclass(slots=True)
class Tally:
    """What came for one account since it was last written; names are columns of `HookEndpoint`."""

    counts: dict[str, int] = field(default_factory=dict)
    rejection: str = ""
    rejected_at: datetime | None = None
    missed_since: datetime | None = None
    missed_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a delivery. `error` is "" when all of it was stored."""

    delivery: int
    number: int | None = None
    error: str = ""


# --- in the web process -----------------------------------------------------------------------


def addressed(platform: str, account_id: int) -> Addressed | None:
    """The account with that id on that platform."""
    return _addressed(Account.objects.filter(pk=account_id, platform=platform))


def named(platform: str, identifier: str) -> Addressed | None:
    """The account that the platform calls so, if there is exactly one."""
    rows = Account.objects.filter(platform=platform, identifier=identifier)
    return _addressed(rows) if rows.count() == 1 else None


def _addressed(rows: Any) -> Addressed | None:
    account = rows.defer("session", "cursor").first()
    if account is None:
        return None
    ref = AccountRef(
        account_id=account.pk,
        platform=account.platform,
        identifier=account.identifier,
        endpoint=account.endpoint,
        credentials=account.credentials,
        session={},
    )
    return Addressed(ref, account.enabled)


def take_delivery(
    account_id: int, delivery: Delivery, headers: Mapping[str, str], body: bytes, now: datetime
) -> bool:
    """Store a delivery and wake the account's check; false when it is there already [S13].

    The account is woken by the first delivery that waits; those behind it are found by the check
    that it woke. Raises `Account.DoesNotExist`.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.deliveries.SHARE_ACCOUNT, [account_id])
        if cursor.fetchone() is None:
            raise Account.DoesNotExist
        is_new, others_wait = _insert(cursor, account_id, delivery, headers, body)
        if is_new and not others_wait:
            cursor.execute(sql.deliveries.WAKE, {"account": account_id, "now": now})
            notify(account_id)
    return is_new


def keep_malformed(account_id: int, headers: Mapping[str, str], body: bytes, error: str) -> bool:
    """A signed request that is not what it should be, as a dead letter; false for a repeat."""
    delivery = Delivery(delivery_id=f"malformed:{sha256(body).hexdigest()}")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.deliveries.SHARE_ACCOUNT, [account_id])
        if cursor.fetchone() is None:
            raise Account.DoesNotExist
        is_new, _others = _insert(cursor, account_id, delivery, headers, body, error)
        if is_new:
            text = body.decode(errors="replace")
            keep_refused(account_id, [Refused("delivery", delivery.delivery_id, text, error)])
            feed.append(account_id, {"account": {"changed": [account_id]}})
    return is_new


def _insert(
    cursor: Any,
    account_id: int,
    delivery: Delivery,
    headers: Mapping[str, str],
    body: bytes,
    error: str = "",
) -> tuple[bool, bool]:
    values = {
        "account": account_id,
        "delivery_id": delivery.delivery_id,
        "order_key": delivery.order_key,
        "number": delivery.number,
        "headers": Jsonb(dict(headers)),
        "body": body,
        "state": (DeliveryState.REFUSED if error else DeliveryState.PENDING).value,
        "error": shown(error),
    }
    cursor.execute(sql.deliveries.TAKE_DELIVERY, values)
    is_new, others_wait = cursor.fetchone()
    return is_new, others_wait


def count(tallies: Mapping[int, Tally]) -> None:
    """Add what came for each account to its counters. Accounts that are gone are left out."""
    with transaction.atomic():
        known = sorted(Account.objects.filter(pk__in=tallies).values_list("pk", flat=True))
        HookEndpoint.objects.bulk_create(
            [HookEndpoint(account_id=one) for one in known], ignore_conflicts=True
        )
        for one in known:
            HookEndpoint.objects.filter(pk=one).update(**_added(tallies[one]))


def _added(tally: Tally) -> dict[str, Any]:
    values: dict[str, Any] = {name: F(name) + more for name, more in tally.counts.items()}
    if tally.rejected_at:
        values |= {
            "last_rejected_at": tally.rejected_at,
            "last_rejection": tally.rejection[:LONGEST_REJECTION],
        }
    if tally.missed_until:
        values |= {
            "missed_since": Coalesce("missed_since", tally.missed_since),
            "missed_until": tally.missed_until,
        }
    return values


# --- in the account's check -------------------------------------------------------------------


def pending_deliveries(account_id: int, most: int) -> list[HookDelivery]:
    """Those that wait, in order of arrival."""
    rows = HookDelivery.objects.filter(account_id=account_id, state=DeliveryState.PENDING)
    return list(rows.order_by("pk")[:most])


def none_pending(account_id: int) -> bool:
    """Whether nothing waits, those counted that are just being stored: whatever is stored after
    this wakes the account by itself."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.deliveries.LOCK_OUT_DELIVERIES, [account_id])
        waiting = HookDelivery.objects.filter(
            account_id=account_id, state=DeliveryState.PENDING
        ).exists()
    return not waiting


def settle(account_id: int, settled: Sequence[Settled], restarted: bool, now: datetime) -> None:
    """Say what became of deliveries, and which numbers never came. In the transaction that stores
    what they held, behind the lock on the account."""
    done = [one.delivery for one in settled if not one.error]
    HookDelivery.objects.filter(pk__in=done).update(
        state=DeliveryState.DONE.value, processed_at=now
    )
    for one in settled:
        if one.error:
            HookDelivery.objects.filter(pk=one.delivery).update(
                state=DeliveryState.REFUSED.value,
                error=shown(one.error),
                processed_at=now,
            )
    arrived = [one.number for one in settled if one.number is not None]
    if arrived:
        _follow_numbers(account_id, arrived, restarted, now)


def numbered_at(account_id: int) -> datetime | None:
    """When the last numbered delivery of the account was processed."""
    rows = HookEndpoint.objects.filter(pk=account_id)
    return rows.values_list("number_at", flat=True).first()


def _follow_numbers(
    account_id: int, arrived: Iterable[int], restarted: bool, now: datetime
) -> None:
    endpoint, _made = HookEndpoint.objects.get_or_create(account_id=account_id)
    open_gaps = Gap.objects.filter(
        account_id=account_id, key__startswith=NUMBERS, closed_at__isnull=True
    )
    known = {gap.key: gap for gap in open_gaps}
    highest, missing = numbers.follow(
        None if restarted else endpoint.number, map(_stretch, known), arrived
    )
    wanted = {f"{NUMBERS}{one.first}-{one.last}": one for one in missing}
    gone = [gap.pk for key, gap in known.items() if key not in wanted]
    Gap.objects.filter(pk__in=gone).update(closed_at=now)
    Gap.objects.bulk_create(
        Gap(
            account_id=account_id,
            key=key,
            older_end=str(one.first - 1),
            newer_end=str(one.last + 1),
            reason=(
                f"Deliveries {one.first} to {one.last} have not come; the platform keeps no copy."
            ),
        )
        for key, one in wanted.items()
        if key not in known
    )
    endpoint.number, endpoint.number_at = highest, now
    endpoint.save(update_fields=["number", "number_at"])
    if gone or wanted.keys() - known.keys():
        feed.append(account_id, {"account": {"changed": [account_id]}})


def _stretch(key: str) -> numbers.Stretch:
    first, last = key.removeprefix(NUMBERS).split("-")
    return numbers.Stretch(int(first), int(last))


def note_missed(lease: Lease, is_numbered: bool) -> None:
    """A gap for what was turned away while the account was disabled. Raises `StaleEpoch`.

    None where the platform numbers its deliveries: then the numbers say exactly what is missing.
    """
    account_id = lease.account_id
    if not HookEndpoint.objects.filter(pk=account_id, missed__gt=0).exists():
        return
    with held(lease):
        endpoint = HookEndpoint.objects.select_for_update().get(pk=account_id)
        since, until = endpoint.missed_since, endpoint.missed_until
        if endpoint.missed and since and until and not is_numbered:
            Gap.objects.get_or_create(
                account_id=account_id,
                key=f"{MISSED}{since.isoformat()}",
                closed_at=None,
                defaults={
                    "older_end": since.isoformat(),
                    "newer_end": until.isoformat(),
                    "reason": _turned_away(endpoint.missed),
                },
            )
            feed.append(account_id, {"account": {"changed": [account_id]}})
        endpoint.missed, endpoint.missed_since, endpoint.missed_until = 0, None, None
        endpoint.save(update_fields=["missed", "missed_since", "missed_until"])


def _turned_away(missed: int) -> str:
    if missed == 1:
        return (
            "1 delivery was turned away while the account was disabled; the platform can't be "
            "asked for it."
        )
    return (
        f"{missed} deliveries were turned away while the account was disabled; the platform can't "
        "be asked for them."
    )
