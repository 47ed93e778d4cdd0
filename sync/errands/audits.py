"""Comparing what the platform holds with the store, and repairing what differs [S9].

Window by window, the newest first. What is listed and missing, or maybe of another version, is
fetched by its id; what we hold and the platform does not list is asked for by its id before it is
taken for deleted: a list may be older than a row, or cut its windows by another time than ours.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from django.utils import timezone

from sync import comparing, services
from sync.batches import bounded
from sync.chance import random
from sync.engine.problems import redacted
from sync.errands.base import Check
from sync.errors import (
    LoginExpired,
    LoginFailed,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
    SyncError,
)
from sync.services.audits import AuditTask
from sync.types import Batch, Listing, Receipt, RecordKind

log = logging.getLogger(__name__)

SLICE_S = 30.0  # of comparing; then other work of the account has its turn
SAVE_S = 1.0  # how often it is saved how far an audit came
ANSWER_S = 60.0  # for one answer of the platform
FETCHED_AT_ONCE = 100  # ids

T = TypeVar("T")


async def audit(check: Check) -> None:
    """A part of the account's audit, if one is due: at least one window, about 30 s of comparing.
    Wherever it is cut, the next part goes on below what was saved.

    What the platform refuses is the audit's failure; where it does not answer, or the adapter
    stumbles, the audit is put off and the account is not: whether the platform is there is for
    reading to say. Raises `RateLimited`, `LoginExpired`, `LoginFailed`.
    """
    lease, now = check.run.lease, timezone.now()
    if not check.platform.lists_ids:
        await check.in_database(services.put_off_audit, lease, now, random())
        return
    task = await check.in_database(services.begin_audit, lease, now, random())
    if task is None:
        return
    try:
        if await _compare(check, task, now):
            lacking = await check.in_database(
                services.finish_audit, lease, task, timezone.now(), random()
            )
            log.info("audit done%s", lacking and f": {lacking}", extra=_about(check, task))
    except (LoginExpired, LoginFailed):
        raise
    except RequestRejected as refused:
        error = redacted(str(refused), check.run.ref)
        log.warning("audit refused: %s", error, extra=_about(check, task))
        await check.in_database(services.fail_audit, lease, task, error, timezone.now(), random())
    except PlatformError as away:
        error = redacted(str(away) or type(away).__name__, check.run.ref)
        log.warning("audit put off: %s", error, extra=_about(check, task))
        await check.in_database(services.put_off_part, lease, task, error, timezone.now(), random())
        if isinstance(away, RateLimited):  # the pace is the account's
            raise


async def _compare(check: Check, task: AuditTask, begun: datetime) -> bool:
    """Compare the windows that are left; whether all are done."""
    ends_at: float | None = None  # counted from what is new: some platforms list all again
    saved_at = -math.inf
    listed = check.connection.list_ids(task.since, dict(task.done))
    async with aclosing(_answers(listed)) as listings:
        async for listing in listings:
            if ends_at is not None and time.monotonic() > ends_at:
                await check.in_database(services.keep_progress, check.run.lease, task)
                return False
            if listing is None or task.is_done(listing):
                continue
            ends_at = ends_at or time.monotonic() + SLICE_S
            await _window(check, task, listing, begun)
            task.compared(listing)
            if time.monotonic() > saved_at + SAVE_S:
                await check.in_database(services.keep_progress, check.run.lease, task)
                saved_at = time.monotonic()
    return True


async def _window(check: Check, task: AuditTask, listing: Listing, begun: datetime) -> None:
    account_id = check.run.lease.account_id
    found = await check.in_database(comparing.compare, account_id, listing, begun)
    missing = services.counted(task.audit_id, "missing")
    outdated = services.counted(task.audit_id, "outdated")
    vanished = services.counted(task.audit_id, "vanished")
    await _fetch(check, listing, found.missing, missing)
    left = await _fetch(check, listing, found.doubtful, outdated)
    left |= await _fetch(check, listing, found.unlisted, vanished)
    await _bury(check, listing.kind, left, vanished)
    await _remember(check, listing, (*found.missing, *found.doubtful))


async def _fetch(
    check: Check, listing: Listing, ids: Sequence[str], count: Callable[[Receipt], None]
) -> set[str]:
    """Fetch records and store them as they are now; returns the ids that the platform no longer
    has."""
    gone = set(ids)
    for begin in range(0, len(ids), FETCHED_AT_ONCE):
        asked = ids[begin : begin + FETCHED_AT_ONCE]
        batches = _answers(check.connection.fetch(listing.kind, listing.scope, asked))
        async with aclosing(batches):
            async for batch in batches:
                here = {one.external_id for one in (*batch.records, *batch.refused)}
                if not here:
                    continue
                gone -= here
                left = max(len(ids) - begin - len(here), 0)
                repair = replace(batch, cursor=None, gaps=None, fetched=True, remaining=left)
                for piece, _size in bounded(repair):
                    await check.store(piece, count)
    return gone


async def _bury(
    check: Check, kind: RecordKind, ids: set[str], count: Callable[[Receipt], None]
) -> None:
    """What the platform deleted without our noticing is kept as a tombstone."""
    account_id, left = check.run.lease.account_id, iter(sorted(ids))
    while some := tuple(islice(left, FETCHED_AT_ONCE)):
        records = await check.in_database(comparing.tombstones, account_id, kind, some)
        for piece, _size in bounded(Batch(None, tuple(records), fetched=True)):
            await check.store(piece, count)


async def _remember(check: Check, listing: Listing, ids: Sequence[str]) -> None:
    """The version texts of what was fetched, so that the next audit knows it for the same."""
    told = [one for one in ids if listing.ids[one]]
    if not told:
        return
    lease = check.run.lease
    rows = await check.in_database(comparing.row_ids, lease.account_id, listing.kind, told)
    versions = {pk: listing.ids[one] for one, pk in rows.items()}
    await check.in_database(services.remember_versions, lease, listing.kind, versions)


async def _answers(iterator: AsyncIterator[T]) -> Any:
    """The iterator's items, each within the time for an answer. An adapter's mistake is a
    `PlatformError`."""
    try:
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):
                    item = await anext(iterator)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise PlatformUnavailable("the platform did not answer in time") from None
            except SyncError:
                raise
            except Exception as error:
                log.exception("the adapter failed in an audit")
                text = f"unexpected {type(error).__name__}; see the worker's log"
                raise PlatformError(text) from error
            yield item
    finally:
        if hasattr(iterator, "aclose"):
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await iterator.aclose()


def _about(check: Check, task: AuditTask) -> dict[str, Any]:
    return {"account_id": check.run.lease.account_id, "audit_id": task.audit_id}
