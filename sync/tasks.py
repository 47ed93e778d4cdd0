"""The Celery tasks of sync: one check of one account, and housekeeping.

A message in the broker is a reference. The account's row decides whether there is anything to do:
its epoch rises with each claim, so a lost message is sent again when the claim's lease is over and
a doubled or late one finds its epoch stale and leaves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from celery import shared_task
from django.utils import timezone

from sync import engine, feed, services
from sync.types import Lease

log = logging.getLogger(__name__)

RUNS_KEPT = timedelta(days=30)
FEED_KEPT = timedelta(days=7)
DELIVERIES_KEPT = timedelta(days=30)
HISTORY_KEPT = timedelta(days=90)  # as the lifecycle log is


@shared_task(name="sync.monitor_account", ignore_result=True, acks_late=False)
def monitor_account(account_id: int, epoch: int) -> None:
    """Hand an account over to this process's engine: a wait for news takes no slot of the pool."""
    engine.take(Lease(account_id, epoch))


@shared_task(name="sync.prune_runs", ignore_result=True)
def prune_runs() -> None:
    """Delete receipts older than 30 days, in batches."""
    _prune("sync runs", services.prune_runs, RUNS_KEPT)


@shared_task(name="sync.prune_feed", ignore_result=True)
def prune_feed() -> None:
    """Delete feed entries older than 7 days, in batches; a console away for longer reloads."""
    _prune("feed entries", feed.prune, FEED_KEPT)


@shared_task(name="sync.recount", ignore_result=True)
def recount() -> None:
    """Compare every counter with its rows; what is wrong is logged, repaired and shown."""
    found = services.recount()
    log.info("recounted: %s counters were wrong", len(found))


@shared_task(name="sync.prune_deliveries", ignore_result=True)
def prune_deliveries() -> None:
    """Delete processed webhook deliveries older than 30 days, in batches.

    Longer than a platform's signature is taken for fresh: what is sent again is found until then.
    """
    _prune("webhook deliveries", services.prune_deliveries, DELIVERIES_KEPT)


@shared_task(name="sync.prune_history", ignore_result=True)
def prune_history() -> None:
    """Delete audits, login sessions and closed gaps that ended more than 90 days ago, in batches.

    What proves an account complete stays: its last audit, its last complete one, its open gaps.
    """
    _prune("audits", services.prune_audits, HISTORY_KEPT)
    _prune("login sessions", services.prune_logins, HISTORY_KEPT)
    _prune("closed gaps", services.prune_gaps, HISTORY_KEPT)


def _prune(what: str, prune: Callable[[datetime], int], kept: timedelta) -> None:
    before, pruned = timezone.now() - kept, 0
    while deleted := prune(before):
        pruned += deleted
    log.info("pruned %s %s older than %s days", pruned, what, kept.days)
