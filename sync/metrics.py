"""Prometheus series of sync [S8], read from the rows when somebody scrapes.

So they are the same whichever process answers, survive restarts, and count what every worker did.
Labels are platform and worker; never the account.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from sync import overview
from sync.models import SyncTotal

PREFIX = "worker_data_sync"
BY = ["platform", "worker"]
RESULTS = ("new", "changed", "same", "refused")


class SyncCollector(Collector):
    """Six queries, whatever the number of accounts. `now` says how late accounts are."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from _totals(list(SyncTotal.objects.order_by("platform", "worker_id")))
        yield from _accounts(overview.watching(self._now))
        yield _dead_letters(overview.open_dead_letters())
        yield _servers(overview.servers_by_state())
        yield from _webhooks(overview.webhooks(), overview.waiting_deliveries())


def _totals(rows: list[SyncTotal]) -> Iterator[Metric]:
    """Counters; they only rise."""
    # The name that was promised has no `_total`: the text format calls such a series untyped.
    errors = UnknownMetricFamily(f"{PREFIX}_errors", "Checks that failed.", labels=BY)
    last = GaugeMetricFamily(
        f"{PREFIX}_last_success_time", "When an account was last up to date (Unix).", labels=BY
    )
    records = CounterMetricFamily(
        f"{PREFIX}_records", "Records read, by what became of them.", labels=[*BY, "result"]
    )
    counters = {
        "syncs": CounterMetricFamily(PREFIX, "Times that an account was up to date.", labels=BY),
        "batches": CounterMetricFamily(f"{PREFIX}_batches", "Batches committed.", labels=BY),
        "size": CounterMetricFamily(f"{PREFIX}_bytes", "Bytes of batches committed.", labels=BY),
        "stale": CounterMetricFamily(
            f"{PREFIX}_stale_epochs", "Writers that had lost their account.", labels=BY
        ),
    }
    for row in rows:
        by = [row.platform, row.worker_id]
        errors.add_metric(by, row.errors)
        if row.last_success_at:
            last.add_metric(by, row.last_success_at.timestamp())
        for result in RESULTS:
            records.add_metric([*by, result], getattr(row, result))
        for name, counter in counters.items():
            counter.add_metric(by, getattr(row, name))
    yield from (errors, last, records, *counters.values())


def _accounts(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    gauges = {
        "enabled": GaugeMetricFamily(f"{PREFIX}_accounts", "Enabled accounts.", labels=BY),
        "watched": GaugeMetricFamily(
            f"{PREFIX}_watched_accounts", "Accounts that a worker watches now.", labels=BY
        ),
        "stalled": GaugeMetricFamily(
            f"{PREFIX}_stalled_accounts", "Accounts without a sync for too long.", labels=BY
        ),
        "lag_s": GaugeMetricFamily(
            f"{PREFIX}_lag_seconds", "Since the sync of the account that is most late.", labels=BY
        ),
    }
    for row in rows:
        for name, gauge in gauges.items():
            gauge.add_metric([row["platform"], row["worker"]], row[name])
    yield from gauges.values()


def _dead_letters(rows: list[tuple[str, int]]) -> Metric:
    gauge = GaugeMetricFamily(
        f"{PREFIX}_dead_letters", "Records that did not validate, open.", labels=["platform"]
    )
    for platform, count in rows:
        gauge.add_metric([platform], count)
    return gauge


def _servers(rows: list[tuple[str, str, int]]) -> Metric:
    gauge = GaugeMetricFamily(
        f"{PREFIX}_troubled_servers",
        "Platforms' servers that failed lately, by the state of their breaker.",
        labels=["platform", "state"],
    )
    for platform, state, count in rows:
        gauge.add_metric([platform, state], count)
    return gauge


def _webhooks(counts: list[dict[str, Any]], waiting: list[tuple[str, int]]) -> Iterator[Metric]:
    """Gauges: what an account counted goes with it when it is deleted."""
    requests = GaugeMetricFamily(
        "sync_webhook_requests",
        "Webhook requests of the accounts that there are, by what became of them.",
        labels=["platform", "outcome"],
    )
    for row in counts:
        for outcome in overview.HOOK_OUTCOMES:
            requests.add_metric([row["account__platform"], outcome], row[f"{outcome}_n"])
    pending = GaugeMetricFamily(
        "sync_webhook_pending", "Deliveries that wait to be read.", labels=["platform"]
    )
    for platform, count in waiting:
        pending.add_metric([platform], count)
    yield from (requests, pending)
