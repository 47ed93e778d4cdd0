"""What the checks of accounts report.

Each report carries its lease: `epoch` rises whenever an account is assigned, claimed or changed,
and a report with an older one raises `StaleEpoch` and changes nothing [S5].
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Case, F, Value, When
from django.db.models.expressions import RawSQL
from django.db.models.functions import Greatest

from sync import feed, schedule, sql
from sync.models import Account, SyncRun
from sync.services.leases import LEASE_S
from sync.services.rows import held, notify, report, shown, stale
from sync.types import AccountRef, Lease, LoginState, RunOutcome, Work

# The master looks by itself every 5 s, and plans for what is due later.
SOON = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Run:
    """What one check of an account begins with."""

    lease: Lease
    ref: AccountRef
    worker_id: str
    cursor: str
    sequence: int
    backlog: int | None
    pace: schedule.Pace
    work: frozenset[Work]  # that waits beside reading
    has_notice: bool = False
    is_server_troubled: bool = False  # it failed others; that it answers is news
    has_failed: bool = False  # when it was last checked
    # The login waits for a person, the server for another account that tries it, or the platform
    # asked for time; or it was asked just now, and only what it has pushed since waits: nothing is
    # done but what needs no answer of it. `asks_at`: until when, None where nobody knows.
    must_not_ask: bool = False
    asks_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a check failed, for the account's page. `error` holds no secret."""

    error: str
    needs_person: bool = False
    retry_after_s: float | None = None
    login_state: LoginState | None = None


def begin_run(lease: Lease, now: datetime) -> Run:
    """Take up a check that was claimed for us. Raises `StaleEpoch` when it is no longer ours.

    What is asked for before this is seen here, what is asked for later makes the account due.
    """
    rows = Account.objects.filter(pk=lease.account_id, epoch=lease.epoch, enabled=True)
    if not rows.update(next_due_at=now + timedelta(seconds=LEASE_S), watched_at=now):
        raise stale(lease)
    waiting = rows.select_related("worker").annotate(
        work=RawSQL(sql.claims.WORK, []),  # noqa: S611
        is_server_troubled=RawSQL(sql.claims.IS_SERVER_TROUBLED, []),  # noqa: S611
        must_not_ask=RawSQL(sql.claims.MUST_NOT_ASK.format(account="sync_account"), []),  # noqa: S611
        tries_server=RawSQL(sql.claims.TRIES_SERVER, []),  # noqa: S611
    )
    account = waiting.first()
    if account is None:
        raise stale(lease)
    work = frozenset(map(Work, account.work))
    asks_at = _asks_at(account, work, now, is_trial=account.tries_server)
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
        worker_id=account.worker.worker_id if account.worker else "",
        cursor=account.cursor,
        sequence=account.sequence,
        backlog=account.backlog,
        pace=schedule.Pace(
            account.interval_s,
            account.stalled_after_s,
            account.current_interval_s,
            (now - account.last_news_at).total_seconds() if account.last_news_at else None,
        ),
        has_notice=bool(account.notice),
        is_server_troubled=account.is_server_troubled,
        must_not_ask=account.must_not_ask or asks_at is not None,
        asks_at=asks_at,
        has_failed=account.error_count > 0,
        work=work,
    )


def _asks_at(
    account: Account, work: frozenset[Work], now: datetime, *, is_trial: bool
) -> datetime | None:
    """When the platform may be asked for the account, None for now. Deliveries bring no request
    forward, and nor does what comes due by itself beside them: many come in an interval, or while
    it backs off."""
    times = [account.not_before]
    is_pushed = Work.DELIVERIES in work and work <= {Work.DELIVERIES, Work.AUDITS}
    if is_pushed and not is_trial:
        times.append(account.asks_at)
    return max((one for one in times if one is not None and one > now), default=None)


def caught_up(
    lease: Lease, now: datetime, asks_at: datetime | None = None, *, had_failed: bool = False
) -> None:
    """The platform has told all that is new, and is waited on; where what it pushes ends the wait,
    it is asked again then. Raises `StaleEpoch`."""
    with transaction.atomic():
        if had_failed:
            _tell_recovery(lease)
        report(lease, last_sync_at=now, error_count=0, asks_at=asks_at)


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


def start_over(lease: Lease, cursor: str, text: str, now: datetime) -> None:
    """Another cursor in place of one that the platform does not know, and what people should see of
    it until that reading is done (`note_over`). Raises `StaleEpoch`.

    In one statement, and before anything is read by it: the newest come first, and where they were
    stored without it, they would be taken for the last that was known before.
    """
    report(lease, cursor=cursor, notice=shown(text), notice_at=now)


def note_over(lease: Lease) -> None:
    """Raises `StaleEpoch`."""
    report(lease, notice="", notice_at=None)


def record_failure(
    lease: Lease, problem: Problem, now: datetime, random: float, worker_id: str = ""
) -> schedule.Decision:
    """A check failed: the error on the account, its next check, and a `SyncRun` for the first
    failure of a series. The feed tells of that one, and of a login that is lost. Raises
    `StaleEpoch`.
    """
    with held(lease) as account:
        login_state = account.login_state
        account.error_count += 1
        account.last_error = shown(problem.error)
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
            account.asks_at = decision.at
            account.not_before = decision.at if problem.retry_after_s else None
            if account.next_due_at > now:
                account.next_due_at = decision.at  # else somebody asked for a check meanwhile
        account.save(
            update_fields=[
                "error_count",
                "last_error",
                "last_error_at",
                "claimed_generation",
                "login_state",
                "next_due_at",
                "not_before",
                "asks_at",
            ]
        )
        if account.error_count == 1 or account.login_state != login_state:
            feed.append(account.pk, {"account": {"changed": [account.pk]}})
        if account.error_count == 1:
            SyncRun.objects.create(
                account=account,
                epoch=lease.epoch,
                worker_id=worker_id,
                outcome=RunOutcome.FAILED,
                error=account.last_error,
            )
    return decision


def finish_run(
    lease: Lease,
    decision: schedule.DueAt,
    now: datetime,
    synced_at: datetime | None,
    interval_s: float | None = None,
    *,
    had_failed: bool = False,
) -> None:
    """The check is over and the account free to be claimed again: when it says, or at once where
    somebody asked for that meanwhile. Raises `StaleEpoch`.

    `synced_at`: when the platform said that this is all; `interval_s`: the one that now counts;
    `had_failed`: the check before this one, so that its end is told.
    """
    values: dict[str, Any] = {
        "claimed_generation": None,
        "watched_at": now,
        "asks_at": decision.at,
        "next_due_at": Case(
            When(next_due_at__lte=now, then=F("next_due_at")), default=Value(decision.at)
        ),
    }
    if interval_s is not None:
        values["current_interval_s"] = interval_s
    if synced_at is not None:
        values |= {"last_sync_at": Greatest("last_sync_at", Value(synced_at)), "error_count": 0}
    with transaction.atomic():
        if had_failed and synced_at is not None:
            _tell_recovery(lease)
        report(lease, **values)
        if decision.at < now + SOON:
            notify(lease.account_id)


def _tell_recovery(lease: Lease) -> None:
    """That the errors are over, unless a batch has told it; with the write that ends them."""
    rows = Account.objects.filter(pk=lease.account_id, epoch=lease.epoch, error_count__gt=0)
    if rows.exists():
        feed.append(lease.account_id, {"account": {"changed": [lease.account_id]}})
