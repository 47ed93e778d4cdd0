"""Reading what platforms pushed, in order of arrival [S13].

A delivery and its state are one transaction: killed at any instruction it waits still, or it is
done. What can't be read is a dead letter and holds nobody up.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from django.utils import timezone

from sync import numbers, services, store
from sync.batches import bounds, slices, sorted_out
from sync.errands.base import Check
from sync.merge import merge
from sync.models import HookDelivery
from sync.platforms.base import Hooks
from sync.services.deliveries import Settled
from sync.types import Batch, Receipt, Record, Refused
from sync.weights import weight

log = logging.getLogger(__name__)

AT_ONCE = 100  # deliveries that are looked at together


@dataclass(frozen=True, slots=True)
class Reading:
    """A delivery, and what it holds."""

    delivery: HookDelivery
    rows: tuple[Record | Refused, ...]
    error: str  # "" when nothing was refused

    @property
    def settled(self) -> Settled:
        return Settled(self.delivery.pk, self.delivery.number, self.error)


async def deliveries(check: Check) -> None:
    """Store all that waits, the oldest first."""
    hooks = check.platform.hooks
    if hooks is None:
        return
    account_id = check.run.lease.account_id
    await check.in_database(services.note_missed, check.run.lease, hooks.is_numbered)
    while True:
        waiting = await check.in_database(services.pending_deliveries, account_id, AT_ONCE)
        for group in grouped([_read(check, hooks, one) for one in waiting]):
            await _store(check, hooks, group)
        if not waiting and await check.in_database(services.none_pending, account_id):
            return


def grouped(readings: Sequence[Reading]) -> list[list[Reading]]:
    """In order, as many together as a batch takes; a larger one is alone, and is cut."""
    limit = bounds()
    groups: list[list[Reading]] = []
    rows = size = 0
    for reading in readings:
        more_rows, more_size = len(reading.rows), sum(map(weight, reading.rows))
        if not groups or rows + more_rows > limit.rows or size + more_size > limit.size:
            groups.append([])
            rows = size = 0
        groups[-1].append(reading)
        rows, size = rows + more_rows, size + more_size
    return groups


def _read(check: Check, hooks: Hooks, delivery: HookDelivery) -> Reading:
    body = bytes(delivery.body)
    try:
        rows = tuple(hooks.read(check.run.ref, delivery.headers, body))
    except Exception as error:  # an adapter's mistake must not hold up what is behind
        log.exception("webhook delivery %s can't be read", delivery.pk, extra=_about(check))
        return _whole(delivery, f"unexpected {type(error).__name__}; see the worker's log")
    records, refused = sorted_out(rows)
    bad = merge(Batch(None, records, refused), bounds().size).refused
    return Reading(delivery, rows, "; ".join(dict.fromkeys(one.error for one in bad)))


def _whole(delivery: HookDelivery, error: str) -> Reading:
    """All of a delivery as one dead letter."""
    body = bytes(delivery.body)
    raw = body.decode(errors="replace")
    letter = Refused("delivery", f"sha256:{sha256(body).hexdigest()}", raw, error)
    return Reading(delivery, (letter,), error)


async def _store(check: Check, hooks: Hooks, group: Sequence[Reading]) -> None:
    """One transaction for the group; what can't be stored together is stored one by one, and what
    can't be stored at all is kept as it came."""
    try:
        await _commit(check, hooks, group)
    except store.REFUSALS as error:
        log.exception("webhook deliveries can't be stored together", extra=_about(check))
        if len(group) == 1:
            why = f"it can't be stored: {type(error).__name__}"
            await _commit(check, hooks, [_whole(group[0].delivery, why)])
            return
        for reading in group:
            await _store(check, hooks, [reading])


async def _commit(check: Check, hooks: Hooks, group: Sequence[Reading]) -> None:
    now = timezone.now()
    account_id = check.run.lease.account_id
    last_at = None
    if any(one.delivery.number is not None for one in group):
        last_at = await check.in_database(services.numbered_at, account_id)
    restarted = numbers.restarted(last_at, now, hooks.numbers_restart_after)
    *earlier, last = slices(row for one in group for row in one.rows)

    def settle(_receipt: Receipt) -> None:
        services.settle(account_id, [one.settled for one in group], restarted, now)

    for piece in earlier:  # of one delivery that is larger than a batch
        await check.store(Batch(None, *sorted_out(piece)))
    await check.store(Batch(None, *sorted_out(last)), settle)


def _about(check: Check) -> dict[str, object]:
    lease = check.run.lease
    return {
        "account_id": lease.account_id,
        "epoch": lease.epoch,
        "worker_id": check.run.worker_id,
    }
