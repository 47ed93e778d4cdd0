"""What the checks of accounts report.

Each report carries its lease: `epoch` rises whenever an account is assigned, claimed or changed,
and a report with an older one raises `StaleEpoch` and changes nothing [S5].
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from lifecycle.types import Pool
from sync import schedule
from sync.models import Account, SyncRun
from sync.services.rows import held, notify, report, stale
from sync.types import AccountRef, Lease, LoginState, RunOutcome

# A check reads for 45 s at most and then waits for one answer; whoever takes longer has lost it.
RUN_LEASE_S = 90.0
LONGEST_ERROR = 2000


@dataclass(frozen=True, slots=True)
class Run:
    """What one check of an account begins with."""

    lease: Lease
    ref: AccountRef
    worker_id: str
    cursor: str
    sequence: int
    interval_s: int
    wait_s: float  # for news, where the adapter can


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a check failed, for the account's page. `error` holds no secret."""

    error: str
    needs_person: bool = False
    retry_after_s: float | None = None
    login_state: LoginState | None = None


def begin_run(lease: Lease, now: datetime) -> Run:
    """Take up a check that was claimed for us. Raises `StaleEpoch` when it is no longer ours."""
    rows = Account.objects.filter(pk=lease.account_id, epoch=lease.epoch, enabled=True)
    if not rows.update(next_due_at=now + timedelta(seconds=RUN_LEASE_S)):
        raise stale(lease)
    account = rows.select_related("worker__runtime").first()
    if account is None:
        raise stale(lease)
    worker = account.worker
    return Run(
        lease=lease,
        ref=AccountRef(
            account_id=account.pk,
            platform=account.platform,
            identifier=account.identifier,
            endpoint=account.endpoint,
            credentials=account.credentials,
            session=account.session,
        ),
        worker_id=worker.worker_id if worker else "",
        cursor=account.cursor,
        sequence=account.sequence,
        interval_s=account.interval_s,
        wait_s=schedule.wait_s(
            account.interval_s,
            blocking=worker is None or worker.pool != Pool.THREADS,
            accounts=worker.runtime.assigned_accounts if worker else 1,
            slots=worker.concurrency if worker and worker.pool != Pool.SOLO else 1,
        ),
    )


def record_login(lease: Lease, state: LoginState, session: dict[str, object] | None = None) -> None:
    """Where the login stands, with the new session if there is one; one that worked ends the error
    of one that did not. Raises `StaleEpoch`.
    """
    values: dict[str, Any] = {"login_state": state.value}
    if state == LoginState.SUCCESS:
        values |= {"last_error": "", "last_error_at": None}
    if session is not None:
        values["session"] = session
    report(lease, **values)


def note(lease: Lease, text: str, now: datetime) -> None:
    """Something that people should see, though the check goes on. Raises `StaleEpoch`."""
    report(lease, last_error=text[:LONGEST_ERROR], last_error_at=now)


def record_failure(
    lease: Lease, problem: Problem, now: datetime, random: float, worker_id: str = ""
) -> schedule.Decision:
    """A check failed: the error on the account, its next check, and a `SyncRun` for the first
    failure of a series. Raises `StaleEpoch`.
    """
    with held(lease) as account:
        account.error_count += 1
        account.last_error = problem.error[:LONGEST_ERROR].replace("\x00", "")
        account.last_error_at = now
        account.claimed_generation = None
        if problem.login_state is not None:
            account.login_state = problem.login_state.value
        decision = schedule.after_failure(
            now,
            schedule.Failure(account.error_count, problem.needs_person, problem.retry_after_s),
            random,
        )
        if isinstance(decision, schedule.DueAt):
            account.next_due_at = decision.at
        account.save(
            update_fields=[
                "error_count",
                "last_error",
                "last_error_at",
                "claimed_generation",
                "login_state",
                "next_due_at",
            ]
        )
        if account.error_count == 1:
            SyncRun.objects.create(
                account=account,
                epoch=lease.epoch,
                worker_id=worker_id,
                outcome=RunOutcome.FAILED,
                error=account.last_error,
            )
    return decision


def finish_run(lease: Lease, decision: schedule.DueAt) -> None:
    """The check is over and the account free to be claimed again. Raises `StaleEpoch`."""
    with transaction.atomic():
        report(lease, next_due_at=decision.at, claimed_generation=None)
        notify(lease.account_id)
