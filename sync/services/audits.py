"""Audits: what is written of comparing a platform's ids with ours [S9].

An audit is a row that is `running` from the moment somebody asks for it, or its time comes, until
every window was compared; how far it came is in `Audit.progress`, so that the next check goes on
where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F
from django.utils.translation import gettext as _

from sync import feed, platforms, schedule
from sync.errors import Rejected
from sync.models import OPEN_GAP, Account, Audit, DeadLetter, Gap, SeenVersion
from sync.services.rows import held, locked, notify, shown
from sync.types import (
    AuditOutcome,
    DeadLetterState,
    Done,
    Lease,
    Listed,
    Listing,
    Receipt,
    RecordKind,
)

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
LOOKED_BACK = timedelta(days=30)  # by a scheduled audit, once all before has been compared
OVERLAP = timedelta(days=1)
# A part that the platform does not answer is tried again after 5 min, doubled up to an hour: an
# outage of a night is waited for. Then the audit has failed.
FIRST_RETRY_S = 300.0
LONGEST_RETRY_S = 3600.0
MOST_FAILURES = 12


@dataclass(slots=True)
class AuditTask:
    """A running audit, for the check that performs it; what is not saved yet is in `listed` and
    `done`."""

    audit_id: int
    since: datetime
    until: datetime
    done: dict[tuple[RecordKind, str], Listed] = field(default_factory=dict)
    listed: int = 0
    came_on: bool = False  # in this part

    def is_done(self, listing: Listing) -> bool:
        """Whether this window, or a lower one of its kind and scope, was compared already."""
        reached = self.done.get((listing.kind, listing.scope))
        return reached is not None and reached.since <= listing.since

    def compared(self, listing: Listing) -> None:
        self.done[listing.kind, listing.scope] = Listed(listing.since, listing.place)
        self.listed += len(listing.ids)
        self.came_on = True


def _kept(done: Done) -> dict[str, dict[str, str]]:
    return {
        f"{kind}/{scope}": {"since": one.since.isoformat(), "place": one.place}
        for (kind, scope), one in done.items()
    }


def _reached(kept: Mapping[str, dict[str, str]]) -> dict[tuple[RecordKind, str], Listed]:
    done: dict[tuple[RecordKind, str], Listed] = {}
    for name, one in kept.items():
        kind, _slash, scope = name.partition("/")
        since = datetime.fromisoformat(one["since"])
        done[RecordKind(kind), scope] = Listed(since, one["place"])
    return done


# --- what people do ---------------------------------------------------------------------------


def ask_audit(account_id: int, by: str, now: datetime, *, full: bool = False) -> Audit:
    """Have the account audited now; `full`: from its beginning instead of the usual window. One
    that was put off goes on at once.

    Raises `Account.DoesNotExist`; `Rejected` when it is disabled, its platform can't list what it
    holds, or an audit is under way.
    """
    with locked(account_id) as account:
        if not account.enabled:
            raise Rejected(_("%(account)s is disabled; enable it first.") % {"account": account})
        platform = platforms.get(account.platform)
        if not platform.lists_ids:
            raise Rejected(
                _("%(platform)s can't list what it holds, so there is nothing to compare with.")
                % {"platform": platform.label}
            )
        audit = Audit.objects.filter(account=account, outcome=AuditOutcome.RUNNING).first()
        if audit is not None and not audit.failures:
            raise Rejected(_("An audit of this account is under way."))
        since = BEGINNING if full else _since(account, now)
        if audit is None:
            audit = Audit.objects.create(
                account=account, outcome=AuditOutcome.RUNNING.value, since=since, asked_by=by
            )
        elif since < audit.since:
            audit.since = since
            audit.save(update_fields=["since"])
        account.audit_due_at = account.next_due_at = now
        account.save(update_fields=["audit_due_at", "next_due_at"])
        feed.append(account_id, {"account": {"changed": [account_id]}})
        notify(account_id)
    audit.refresh_from_db()
    return audit


# --- what the account's worker does -----------------------------------------------------------


def begin_audit(lease: Lease, now: datetime, random: float) -> AuditTask | None:
    """The running audit, or a new one when its time has come; None when there is nothing to do. An
    account that has just been read for the first time is told when its first one is due. Raises
    `StaleEpoch`."""
    with held(lease) as account:
        running = Audit.objects.filter(account=account, outcome=AuditOutcome.RUNNING)
        audit = running.order_by("pk").first()
        if audit is None:
            if account.audit_due_at is None:
                account.audit_due_at = schedule.first_audit(now, account.audit_interval_s, random)
                account.save(update_fields=["audit_due_at"])
            if account.audit_due_at > now:
                return None
            audit = Audit.objects.create(
                account=account, outcome=AuditOutcome.RUNNING.value, since=_since(account, now)
            )
        if audit.until is None:
            audit.until = now
            audit.save(update_fields=["until"])
            feed.append(account.pk, {"account": {"changed": [account.pk]}})
        return AuditTask(audit.pk, audit.since, audit.until, _reached(audit.progress))


def put_off_audit(lease: Lease, now: datetime, random: float) -> None:
    """The platform can't be audited: ask again after the interval. Raises `StaleEpoch`."""
    with held(lease) as account:
        _schedule(account, now, random)


def keep_progress(lease: Lease, task: AuditTask) -> None:
    """Save how far it came. Raises `StaleEpoch`."""
    values: dict[str, Any] = {"progress": _kept(task.done), "listed": F("listed") + task.listed}
    if task.came_on:
        values |= {"failures": 0, "error": ""}
    with held(lease):
        Audit.objects.filter(pk=task.audit_id).update(**values)
    task.listed, task.came_on = 0, False


def counted(audit_id: int, column: str) -> Callable[[Receipt], None]:
    """For `Check.store`'s `within`: what a repair did, counted in its own transaction.

    `column`: missing (new rows are counted), outdated or vanished (changed ones).
    """

    def count(receipt: Receipt) -> None:
        done = receipt.new if column == "missing" else receipt.changed
        Audit.objects.filter(pk=audit_id).update(
            **{column: F(column) + done, "repaired": F("repaired") + receipt.new + receipt.changed}
        )

    return count


def remember_versions(lease: Lease, kind: RecordKind, versions: Mapping[int, str]) -> None:
    """The platform's version texts of records that we hold, by database id. Raises `StaleEpoch`."""
    with held(lease):
        SeenVersion.objects.bulk_create(
            (
                SeenVersion(
                    account_id=lease.account_id, kind=kind.value, record_id=pk, version=version
                )
                for pk, version in sorted(versions.items())
            ),
            update_conflicts=True,
            unique_fields=["account", "kind", "record_id"],
            update_fields=["version"],
        )


def finish_audit(lease: Lease, task: AuditTask, now: datetime, random: float) -> str:
    """Every window was compared and repaired. Moves `Account.complete_until`, unless something is
    known to be missing; returns what that is, "" for nothing. Raises `StaleEpoch`.
    """
    keep_progress(lease, task)
    with held(lease) as account:
        lacking = _lacking(account)
        outcome = AuditOutcome.FAILED if lacking else AuditOutcome.COMPLETE
        _close(account, task.audit_id, outcome, lacking, now)
        if not lacking:
            account.complete_until = task.until
            account.save(update_fields=["complete_until"])
        _schedule(account, now, random)
    return lacking


def put_off_part(lease: Lease, task: AuditTask, error: str, now: datetime, random: float) -> None:
    """The platform did not answer: the audit goes on later, where it came to. After `MOST_FAILURES`
    parts that came no further it has failed. Raises `StaleEpoch`."""
    keep_progress(lease, task)
    with held(lease) as account:
        failures = Audit.objects.values_list("failures", flat=True).get(pk=task.audit_id) + 1
        if failures >= MOST_FAILURES:
            _close(account, task.audit_id, AuditOutcome.FAILED, error, now)
            _schedule(account, now, random)
            return
        Audit.objects.filter(pk=task.audit_id).update(failures=failures, error=shown(error))
        wait_s = schedule.backoff_s(failures, random, LONGEST_RETRY_S, FIRST_RETRY_S)
        account.audit_due_at = now + timedelta(seconds=wait_s)
        account.save(update_fields=["audit_due_at"])
        feed.append(account.pk, {"account": {"changed": [account.pk]}})


def fail_audit(lease: Lease, task: AuditTask, error: str, now: datetime, random: float) -> None:
    """The platform refuses to be compared with. Raises `StaleEpoch`."""
    keep_progress(lease, task)
    with held(lease) as account:
        _close(account, task.audit_id, AuditOutcome.FAILED, error, now)
        _schedule(account, now, random)


# --- parts ------------------------------------------------------------------------------------


def _since(account: Account, now: datetime) -> datetime:
    """Audits follow on each other without a hole: what was never proven complete is compared."""
    if account.complete_until is None:
        return BEGINNING
    return min(now - LOOKED_BACK, account.complete_until - OVERLAP)


def _lacking(account: Account) -> str:
    """What is known to be missing in the store, and nobody accepted as lost, for people; as
    `sync.sentences` has it."""
    gaps = Gap.objects.filter(OPEN_GAP, account=account).count()
    letters = DeadLetter.objects.filter(account=account, state=DeadLetterState.OPEN).count()
    parts = []
    if gaps:
        parts.append("1 gap is open" if gaps == 1 else f"{gaps} gaps are open")
    if letters:
        one, more = "1 dead letter is open", f"{letters} dead letters are open"
        parts.append(one if letters == 1 else more)
    return ", ".join(parts)


def _close(
    account: Account, audit_id: int, outcome: AuditOutcome, error: str, now: datetime
) -> None:
    Audit.objects.filter(pk=audit_id).update(
        outcome=outcome.value,
        error=shown(error),
        finished_at=now,
        progress={},
    )
    feed.append(account.pk, {"account": {"changed": [account.pk]}})


def _schedule(account: Account, now: datetime, random: float) -> None:
    account.audit_due_at = schedule.after_success(now, account.audit_interval_s, random).at
    account.save(update_fields=["audit_due_at"])
