"""The Celery tasks of sync: one check of one account, and housekeeping.

A message in the broker is a reference. The account's row decides whether there is anything to do:
its epoch rises with each claim, so a lost message is sent again when the claim's lease is over and
a doubled or late one finds its epoch stale and leaves.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Generator
from contextlib import closing
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down
from django.db import Error as DatabaseError
from django.db import close_old_connections
from django.utils import timezone
from pydantic.fields import FieldInfo

from lifecycle.masking import SECRET_NAME
from sync import platforms, schedule, services, store, watch
from sync.errors import (
    CursorInvalid,
    CursorMoved,
    Interrupted,
    LoginExpired,
    LoginFailed,
    PlatformError,
    RateLimited,
    StaleEpoch,
    SyncError,
)
from sync.platforms.base import Platform
from sync.types import Batch, Lease, LoginState

log = logging.getLogger(__name__)

# A long catch-up is done in parts, so that other accounts have their turn in between.
LONGEST_READ_S = 45.0
RUNS_KEPT = timedelta(days=30)
SHORTEST_SECRET = 4

worker_shutting_down.connect(watch.stop, dispatch_uid="sync.watch.stop")


@shared_task(name="sync.monitor_account", ignore_result=True, acks_late=False)
def monitor_account(account_id: int, epoch: int) -> None:
    """Check an account: log in if need be, store what is new, wait for more. Never raises."""
    lease = Lease(account_id, epoch)
    about = {"account_id": account_id, "epoch": epoch}
    try:
        run = services.begin_run(lease, timezone.now())
        _check_and_report(run)
    except StaleEpoch as stale:
        log.info("left: the account was given to a newer check (%s)", stale, extra=about)
    except DatabaseError:
        # The claim's lease makes the account due again.
        log.exception(
            "the check of account %s could not reach the database", account_id, extra=about
        )
    finally:
        close_old_connections()


@shared_task(name="sync.prune_runs", ignore_result=True)
def prune_runs() -> None:
    """Delete receipts older than 30 days, in batches."""
    before = timezone.now() - RUNS_KEPT
    pruned = 0
    while deleted := services.prune_runs(before):
        pruned += deleted
    log.info("pruned %s sync runs older than %s days", pruned, RUNS_KEPT.days)


def _check_and_report(run: services.Run) -> None:
    """One check, and what became of it on the account's row. Raises as `begin_run`."""
    lease = run.lease
    about = {"account_id": lease.account_id, "epoch": lease.epoch, "worker_id": run.worker_id}
    try:
        decision = _check(run)
    except StaleEpoch:
        raise
    except (Interrupted, CursorMoved) as ended:
        log.info("ended early: %s", ended, extra=about)
        decision = schedule.DueAt(timezone.now())
    except SyncError as error:
        problem = _problem(error, _secrets(run))
        log.warning("check failed: %s", problem.error, extra=about)
        _fail(run, problem)
        return
    except DatabaseError as error:
        log.exception("check failed in the database", extra=about)
        _fail(run, services.Problem(f"database: {type(error).__name__}"))
        return
    except Exception as error:  # an adapter's mistake must not reach the other accounts
        log.exception("check failed unexpectedly", extra=about)
        _fail(run, services.Problem(f"unexpected {type(error).__name__}; see the worker's log"))
        return
    services.finish_run(lease, decision)


def _fail(run: services.Run, problem: services.Problem) -> None:
    services.record_failure(run.lease, problem, timezone.now(), _random(), run.worker_id)


def _check(run: services.Run) -> schedule.DueAt:
    """Read, merge and store until there is nothing new and the wait is over."""
    platform = platforms.get(run.ref.platform)
    with watch.Watch(platform, run.ref) as opened:
        Check(run, platform, opened).perform()
    return schedule.after_success(
        timezone.now(), run.interval_s, _random(), can_wait=platform.can_wait
    )


class Check:
    """One check under way: how far it came, and what it may still try."""

    def __init__(self, run: services.Run, platform: Platform, opened: watch.Watch) -> None:
        self.run, self.platform, self.watch = run, platform, opened
        self.cursor, self.sequence = run.cursor, run.sequence
        self.may_log_in = True
        self.begun = time.monotonic()

    def perform(self) -> None:
        """Raises what `_check_and_report` sorts out."""
        if not self.run.ref.session:
            self._log_in()
        while True:
            try:
                if not self._read():
                    return
            except LoginExpired:
                if not self.may_log_in:
                    raise LoginFailed("the platform ends each new session at once") from None
                services.record_login(self.run.lease, LoginState.EXPIRED, {})
                self._log_in()
            except CursorInvalid as invalid:
                if not self.cursor:
                    raise
                log.warning("the cursor is invalid, reading from the start", extra=self._about)
                text = f"the platform no longer knows our cursor, reading from the start: {invalid}"
                services.note(self.run.lease, _without(_secrets(self.run), text), timezone.now())
                self.cursor = ""

    def _read(self) -> bool:
        """One read of the connection; whether there may be more and there is time for it."""
        brought = False
        wait_s = max(self._remaining(self.run.wait_s), 0.0) if self.platform.can_wait else 0.0
        with closing(self._batches(wait_s)) as batches:
            for batch in batches:
                brought = self._store(batch) or brought
                if self._remaining(LONGEST_READ_S) <= 0:
                    return False
        return brought and self.platform.can_wait and self._remaining(self.run.wait_s) > 0

    def _batches(self, wait_s: float) -> Generator[Batch, None, None]:
        """The connection's batches; no database connection is held while we wait for them."""
        with closing(self.watch.read(self.cursor, wait_s)) as batches:
            close_old_connections()
            for batch in batches:
                yield batch
                close_old_connections()

    def _store(self, batch: Batch) -> bool:
        receipt = store.ingest_batch(self.run.lease, self.sequence, batch, self.run.worker_id)
        self.sequence = receipt.sequence
        if batch.cursor is not None:
            self.cursor = batch.cursor
        if receipt.new or receipt.changed or receipt.refused:
            log.info(
                "stored batch %s: %s new, %s changed, %s same, %s refused",
                *(receipt.sequence, receipt.new, receipt.changed, receipt.same, receipt.refused),
                extra=self._about,
            )
        return receipt.read > 0

    def _log_in(self) -> None:
        self.may_log_in = False
        services.record_login(self.run.lease, LoginState.PENDING)
        close_old_connections()
        session = self.watch.login()
        services.record_login(self.run.lease, LoginState.SUCCESS, session)
        log.info("logged in", extra=self._about)

    def _remaining(self, seconds: float) -> float:
        return self.begun + seconds - time.monotonic()

    @property
    def _about(self) -> dict[str, Any]:
        lease = self.run.lease
        return {
            "account_id": lease.account_id,
            "epoch": lease.epoch,
            "worker_id": self.run.worker_id,
        }


def _problem(error: SyncError, hidden: list[str]) -> services.Problem:
    """What an error means for the account's next check, in words without secrets."""
    text = _without(hidden, str(error) or type(error).__name__)
    match error:
        case LoginFailed():
            return services.Problem(text, needs_person=True, login_state=LoginState.FAILED)
        case LoginExpired():
            return services.Problem(text, login_state=LoginState.EXPIRED)
        case RateLimited():
            return services.Problem(text, retry_after_s=error.retry_after_s)
        case PlatformError():
            return services.Problem(text)
        case _:
            return services.Problem(f"{type(error).__name__}: {text}")


def _secrets(run: services.Run) -> list[str]:
    """Every text in credentials and session that must not be shown, the longest first.

    A username is none: to say whose password was refused is of use.
    """
    found: list[str] = []
    platform = platforms.registry().get(run.ref.platform)
    shape = platform.credentials.model_fields if platform else {}
    todo: list[object] = [
        run.ref.session,
        *(
            value
            for name, value in run.ref.credentials.items()
            if not (name in shape and _is_public(name, shape[name]))
        ),
    ]
    while todo:
        match todo.pop():
            case dict() as mapping:
                todo.extend(mapping.values())
            case list() as items:
                todo.extend(items)
            case str() as text if len(text) >= SHORTEST_SECRET and text != run.ref.identifier:
                found.append(text)
    return sorted(found, key=len, reverse=True)


def _is_public(name: str, field: FieldInfo) -> bool:
    """A plain text that the adapter does not hide, and whose name is no secret's."""
    return bool(
        field.annotation in (str, str | None) and field.repr and not SECRET_NAME.search(name)
    )


def _without(hidden: list[str], text: str) -> str:
    for one in hidden:
        text = text.replace(one, "[redacted]")
    return text


def _random() -> float:
    return secrets.randbelow(1_000_000) / 1_000_000
