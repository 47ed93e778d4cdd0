"""Reads of how syncing goes: for the sync page, the API and `/metrics` [S7, S8]."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Case, Count, F, Min, Q, QuerySet, Sum, When
from django.db.models.functions import Coalesce

from sync.models import (
    Account,
    DeadLetter,
    HookDelivery,
    HookEndpoint,
    PlatformServer,
    SyncRun,
)
from sync.queries import accounts, standings
from sync.types import BreakerState, DeadLetterState, DeliveryState, LoginState

LATEST_RUNS = 5000  # receipts that are looked at for the present rates, whatever their number
HOOK_OUTCOMES = (  # columns of `HookEndpoint`
    *("accepted", "repeated", "rejected", "malformed", "too_large", "throttled"),
    *("unavailable", "missed"),
)
RATE_OVER = timedelta(minutes=5)

# Renewed every 30 s; two may be missed.
WATCHED_FOR = timedelta(seconds=90)


def watching(now: datetime) -> list[dict[str, Any]]:
    """For each platform and worker ("" for none): enabled accounts, those that are watched now,
    those that are stalled, and since when the most late one has not synced (s). One query.
    """
    to_sync = Q(enabled=True) & ~Q(login_state=LoginState.FAILED)
    held = Q(claimed_generation=F("worker__runtime__generation"), watched_at__gt=now - WATCHED_FOR)
    rows = (
        Account.objects.filter(enabled=True)
        .values("platform", "worker__worker_id")
        .annotate(
            enabled_count=Count("pk"),
            watched=Count("pk", filter=held),
            stalled=Count("pk", filter=Q(stalled_since__isnull=False)),
            last=Min(Coalesce("last_sync_at", "created_at"), filter=to_sync),
        )
        .order_by("platform", "worker__worker_id")
    )
    return [
        {
            "platform": row["platform"],
            "worker": row["worker__worker_id"] or "",
            "enabled": row["enabled_count"],
            "watched": row["watched"],
            "stalled": row["stalled"],
            "lag_s": max((now - row["last"]).total_seconds(), 0.0) if row["last"] else 0.0,
        }
        for row in rows
    ]


def open_dead_letters() -> list[tuple[str, int]]:
    """How many are open, by platform. dead_letter_open."""
    rows = DeadLetter.objects.filter(state=DeadLetterState.OPEN).values_list("account__platform")
    return list(rows.annotate(n=Count("pk")).order_by("account__platform"))


def webhooks() -> list[dict[str, Any]]:
    """Requests counted so far, by platform: `account__platform`, and `<outcome>_n` for each."""
    sums: dict[str, Any] = {f"{name}_n": Sum(name) for name in HOOK_OUTCOMES}
    rows: Any = HookEndpoint.objects.values("account__platform").order_by("account__platform")
    return list(rows.annotate(**sums))


def waiting_deliveries() -> list[tuple[str, int]]:
    """How many wait, by platform. delivery_pending."""
    rows = HookDelivery.objects.filter(state=DeliveryState.PENDING)
    by_platform = rows.values_list("account__platform").annotate(n=Count("pk"))
    return list(by_platform.order_by("account__platform"))


def servers() -> QuerySet[PlatformServer]:
    """Servers that failed, those that are not asked first."""
    return PlatformServer.objects.order_by(
        Case(When(state=BreakerState.CLOSED, then=1), default=0), "-failures", "platform", "pk"
    )


def servers_by_state() -> list[tuple[str, str, int]]:
    rows = PlatformServer.objects.filter(failures__gt=0).values_list("platform", "state")
    return list(rows.annotate(n=Count("pk")).order_by("platform", "state"))


def stalled() -> QuerySet[Account]:
    """Those that have not synced for too long, the longest first."""
    return accounts().filter(stalled_since__isnull=False).order_by("last_sync_at", "pk")


@dataclass(frozen=True, slots=True)
class Rates:
    """How much was committed lately, a minute."""

    batches: float
    records: float
    refused: float
    size: float  # bytes


def rates(now: datetime) -> Rates:
    """From the latest receipts, of 5 minutes at most: by the primary key from its end."""
    latest = SyncRun.objects.order_by("-pk").values("pk")[:LATEST_RUNS]
    rows = SyncRun.objects.filter(
        pk__in=latest, finished_at__gt=now - RATE_OVER, sequence__isnull=False
    )
    sums = rows.aggregate(
        batches=Count("pk"),
        records=Coalesce(Sum("read"), 0),
        refused=Coalesce(Sum("refused"), 0),
        size=Coalesce(Sum("size"), 0),
        since=Min("finished_at"),
    )
    minutes = RATE_OVER.total_seconds() / 60
    if sums["batches"] >= LATEST_RUNS:  # they cover less than the 5 minutes
        minutes = max((now - sums["since"]).total_seconds() / 60, 1 / 60)
    return Rates(*(sums[name] / minutes for name in ("batches", "records", "refused", "size")))


def figures(now: datetime) -> dict[str, Any]:
    """All accounts in one row: how many there are of each standing."""
    enabled, waits = Q(enabled=True), Q(login_state=LoginState.FAILED)
    late = enabled & ~waits
    found = standings(
        Account.objects.all(),
        disabled=Count("pk", filter=~enabled),
        waiting_for_person=Count("pk", filter=enabled & waits),
        homeless=Count("pk", filter=late & Q(worker__isnull=True)),
        backlog=Coalesce(Sum("backlog"), 0),
        oldest=Min(Coalesce("last_sync_at", "created_at"), filter=late),
    )
    oldest = found.pop("oldest")
    return {**found, "lag_s": max((now - oldest).total_seconds(), 0.0) if oldest else 0.0}
