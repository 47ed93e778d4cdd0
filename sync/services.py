"""Writes on accounts: what people change, and what their checks report.

What a check reports carries its lease: `epoch` rises whenever an account is assigned, claimed or
changed, and a report with an older one raises `StaleEpoch` and changes nothing [S5].
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pydantic
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from lifecycle.balance import Strategy
from lifecycle.types import Pool
from sync import platforms, schedule, sql
from sync.errors import Rejected, StaleEpoch, UnknownPlatform
from sync.models import Account, Assignment, SyncRun
from sync.platforms.base import Platform
from sync.types import AccountRef, Lease, LoginState, RunOutcome

log = logging.getLogger(__name__)

ACCOUNTS = (
    "muster_accounts"  # the channel that wakes the master's duty; payload: account id, 0: all
)

FIELDS = ("name", "platform", "identifier", "endpoint", "credentials", "enabled", "interval_s")
IDENTITY = ("platform", "identifier")
NEW_LOGIN = ("platform", "identifier", "endpoint", "credentials", "enabled")

# A check reads for 45 s at most and then waits for one answer; whoever takes longer has lost it.
RUN_LEASE_S = 90.0
LONGEST_ERROR = 2000


# --- what people change -----------------------------------------------------------------------


def create_account(fields: dict[str, Any]) -> Account:
    """A new account, due at once. Raises `ValidationError` naming each bad field."""
    account = Account()
    _apply(account, fields)
    with transaction.atomic():
        account.save(force_insert=True)
        _notify(account.pk)
    return account


def update_account(account: Account, fields: dict[str, Any]) -> Account:
    """Change an account. New credentials, a new endpoint or a new `enabled` ends its session and
    its running check; it is due at once. Raises `ValidationError` naming each bad field.
    """
    with transaction.atomic():
        current = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        before = {name: getattr(current, name) for name in FIELDS}
        _apply(current, fields)
        changed = {name for name in FIELDS if getattr(current, name) != before[name]}
        if current.sequence and changed & set(IDENTITY):
            moved = _("An account that holds data can't become another one; create a new account.")
            raise ValidationError(dict.fromkeys(changed & set(IDENTITY), moved))
        if changed & set(NEW_LOGIN):
            _start_over(current)
        elif "interval_s" in changed and not current.error_count:
            current.next_due_at = timezone.now()
        current.save()
        _notify(current.pk)
    return current


def delete_account(account: Account) -> None:
    """Delete an account and all that it holds. A check that still runs finds its lease stale."""
    with transaction.atomic():
        locked = Account.objects.select_for_update().filter(pk=account.pk).first()
        if locked is not None:
            locked.delete()
            _notify(account.pk)


def check_now(account_id: int) -> None:
    """Due at once, even while it waits for a person.

    Raises `Account.DoesNotExist`; `Rejected` when it is disabled.
    """
    with transaction.atomic():
        account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
        if not account.enabled:
            raise Rejected(_("%(account)s is disabled; enable it first.") % {"account": account})
        account.next_due_at = timezone.now()
        if account.login_state == LoginState.FAILED:
            account.login_state = LoginState.NONE.value
        account.save(update_fields=["next_due_at", "login_state"])
        _notify(account_id)


def set_strategy(strategy: Strategy, actor: str) -> Assignment:
    """How the next accounts are given to workers [L15]; no account moves because of it."""
    with transaction.atomic():
        chosen, _created = Assignment.objects.update_or_create(
            id=1, defaults={"strategy": strategy.value}
        )
        _notify(0)
    log.info("accounts are assigned %s", strategy, extra={"actor": actor})
    return chosen


def _start_over(account: Account) -> None:
    """The account logs in anew, at once; whatever runs for it has lost its lease."""
    account.epoch += 1
    account.session = {}
    account.login_state = LoginState.NONE.value
    account.error_count = 0
    account.last_error, account.last_error_at = "", None
    account.next_due_at = timezone.now()
    account.claimed_generation = None
    if not account.enabled:
        account.worker = None


def _apply(account: Account, fields: dict[str, Any]) -> None:
    """Set the fields and validate the whole, once. Raises `ValidationError`."""
    errors: dict[str, Any] = {
        name: [_("There is no such field.")] for name in fields.keys() - set(FIELDS)
    }
    for name in fields.keys() & set(FIELDS):
        setattr(account, name, fields[name])
    try:
        platform = platforms.get(account.platform)
    except UnknownPlatform:
        known = ", ".join(sorted(platforms.registry()))
        errors["platform"] = [_("There is no such platform; known: %(known)s.") % {"known": known}]
    else:
        errors |= _bad_endpoint(account, platform) | _bad_credentials(account, platform)
    try:
        account.full_clean(exclude={*errors, "credentials"} & set(FIELDS))
    except ValidationError as invalid:
        errors = invalid.update_error_dict(errors)
    if errors:
        raise ValidationError(errors)


def _bad_endpoint(account: Account, platform: Platform) -> dict[str, list[str]]:
    """Also takes a closing slash off, so that one server has one name."""
    if not isinstance(account.endpoint, str):
        return {"endpoint": [_("This must be a text.")]}
    account.endpoint = account.endpoint.strip().rstrip("/")
    if not account.endpoint and not platform.needs_endpoint:
        return {}
    try:
        parts = urlsplit(account.endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(one.isspace() for one in account.endpoint):
        return {"endpoint": [_("Enter an address that begins with http:// or https://.")]}
    if parts.username is not None:
        return {"endpoint": [_("Name and password belong in the credentials.")]}
    return {}


def _bad_credentials(account: Account, platform: Platform) -> dict[str, list[str]]:
    """The errors of the platform's own model, each named `credentials.<field>`; no values."""
    if not isinstance(account.credentials, dict):
        return {"credentials": [_("This must be an object.")]}
    try:
        platform.credentials.model_validate(dict(account.credentials))
    except pydantic.ValidationError as invalid:
        errors: dict[str, list[str]] = {}
        for error in invalid.errors(include_input=False, include_context=False, include_url=False):
            name = ".".join(["credentials", *map(str, error["loc"])])
            errors.setdefault(name, []).append(error["msg"])
        return errors
    return {}


def _notify(account_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.NOTIFY, [ACCOUNTS, str(account_id)])


# --- what checks report -----------------------------------------------------------------------


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
        raise _stale(lease)
    account = rows.select_related("worker__runtime").first()
    if account is None:
        raise _stale(lease)
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
    _report(lease, **values)


def note(lease: Lease, text: str, now: datetime) -> None:
    """Something that people should see, though the check goes on. Raises `StaleEpoch`."""
    _report(lease, last_error=text[:LONGEST_ERROR], last_error_at=now)


def record_failure(
    lease: Lease, problem: Problem, now: datetime, random: float, worker_id: str = ""
) -> schedule.Decision:
    """A check failed: the error on the account, its next check, and a `SyncRun` for the first
    failure of a series. Raises `StaleEpoch`.
    """
    with _held(lease) as account:
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
        _report(lease, next_due_at=decision.at, claimed_generation=None)
        _notify(lease.account_id)


def _report(lease: Lease, **values: Any) -> None:
    rows = Account.objects.filter(pk=lease.account_id, epoch=lease.epoch)
    if not rows.update(**values):
        raise _stale(lease)


@contextmanager
def _held(lease: Lease) -> Iterator[Account]:
    """The account's row, locked, if the lease is still worth something."""
    with transaction.atomic():
        rows = Account.objects.select_for_update(no_key=True).defer("credentials", "session")
        account = rows.filter(pk=lease.account_id, epoch=lease.epoch).first()
        if account is None:
            raise _stale(lease)
        yield account


def _stale(lease: Lease) -> StaleEpoch:
    epochs = Account.objects.filter(pk=lease.account_id).values_list("epoch", flat=True)
    return StaleEpoch(lease.account_id, lease.epoch, epochs.first())


# --- housekeeping -----------------------------------------------------------------------------


def prune_runs(before: datetime, most: int = 5000) -> int:
    """Delete receipts that finished before that, at most so many in one transaction."""
    with connection.cursor() as cursor:
        cursor.execute(sql.PRUNE_RUNS, {"before": before, "most": most})
        deleted: int = cursor.rowcount
    return deleted
