"""`sync.services` and `sync.queries`: accounts as people and checks change them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lifecycle.models import WorkerConfig
from sync import platforms, queries, schedule, services, sql, store
from sync.errors import StaleEpoch
from sync.merge import merge
from sync.models import Account, Audit, Gap, HookDelivery, LoginSession, Message, SyncRun
from sync.tasks import prune_history
from sync.types import Batch, Lease, LoginState, Work
from tests.db.sync_stage import NOON, TinyPlatform, lease, make_account, message, most_rows

pytestmark = pytest.mark.django_db

FIELDS: dict[str, Any] = {
    "platform": "tiny",
    "identifier": "@sales:test",
    "endpoint": "https://chat.example.org/",
    "credentials": {"user": "sales", "password": "hunter2hunter2"},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyPlatform:
    platform = TinyPlatform()
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": platform})
    return platform


def invalid(fields: dict[str, Any]) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as error:
        services.create_account(fields)
    assert not Account.objects.exists()
    assert "hunter2" not in str(error.value)
    return error.value.message_dict


# --- people -----------------------------------------------------------------------------------


def test_create_an_account() -> None:
    account = services.create_account(FIELDS)
    account.refresh_from_db()
    assert account.endpoint == "https://chat.example.org"
    assert account.credentials["password"] == "hunter2hunter2"
    assert account.login_state == LoginState.NONE
    assert account.next_due_at <= timezone.now()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"platform": "fax"}, {"platform"}),
        ({"identifier": ""}, {"identifier"}),
        ({"interval_s": 1}, {"interval_s"}),
        ({"interval_s": "often"}, {"interval_s"}),
        ({"interval_s": 86_401}, {"interval_s"}),
        ({"endpoint": ""}, {"endpoint"}),
        ({"endpoint": "ftp://example.org"}, {"endpoint"}),
        ({"endpoint": "https://"}, {"endpoint"}),
        ({"endpoint": "http://exa mple.org"}, {"endpoint"}),
        ({"endpoint": "http://[::1"}, {"endpoint"}),
        ({"endpoint": "http://me:secret@example.org"}, {"endpoint"}),
        ({"endpoint": 5}, {"endpoint"}),
        ({"credentials": {}}, {"credentials.user", "credentials.password"}),
        ({"credentials": {"user": "a", "password": 1}}, {"credentials.password"}),
        ({"credentials": "hunter2hunter2"}, {"credentials"}),
        ({"colour": "red"}, {"colour"}),
        ({"name": "n" * 201, "interval_s": 0}, {"name", "interval_s"}),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], named: set[str]) -> None:
    assert set(invalid({**FIELDS, **fields})) == named


def test_an_account_is_there_once() -> None:
    services.create_account(FIELDS)
    with pytest.raises(ValidationError):
        services.create_account({**FIELDS, "endpoint": "https://chat.example.org"})


def test_a_server_has_one_name() -> None:
    """So that an account is there once, and its breaker too."""
    account = services.create_account({**FIELDS, "endpoint": "HTTPS://Chat.Example.ORG:8448/Path/"})
    assert account.endpoint == "https://chat.example.org:8448/Path"


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://chat.example.org",
        "https://chat.example.org/",
        " HTTPS://Chat.Example.org:443/ ",
        "https://chat.example.org:",
    ],
)
def test_the_platforms_own_address_is_the_same_as_none(
    tiny: TinyPlatform, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setattr(TinyPlatform, "needs_endpoint", False)
    monkeypatch.setattr(TinyPlatform, "default_endpoint", "https://chat.example.org")
    account = services.create_account({**FIELDS, "endpoint": ""})
    with pytest.raises(ValidationError, match="already exists"):
        services.create_account({**FIELDS, "endpoint": endpoint})
    assert services.update_account(account, {"endpoint": endpoint}).endpoint == ""
    other = services.create_account({**FIELDS, "endpoint": "http://chat.example.org:443"})
    assert other.endpoint == "http://chat.example.org:443"


@pytest.mark.parametrize("unfit", [{"platform": "gone"}, {"endpoint": "ftp://example.org"}])
def test_switching_off_asks_nothing_else_of_an_account(unfit: dict[str, str]) -> None:
    account = services.create_account(FIELDS)
    Account.objects.update(**unfit)
    before = account.epoch
    assert services.update_account(account, {"enabled": False}).epoch == before + 1
    account.refresh_from_db()
    assert not account.enabled
    for fields in ({"enabled": True}, {"enabled": False, "interval_s": 60}):
        with pytest.raises(ValidationError) as error:
            services.update_account(account, fields)
        assert set(error.value.message_dict) == set(unfit)


def test_a_new_account_is_validated_also_when_it_is_switched_off() -> None:
    with pytest.raises(ValidationError):
        services.create_account({"enabled": False})


def test_stalled_after_is_taken_from_where_it_counts() -> None:
    account = services.create_account({**FIELDS, "stalled_after_s": 120})
    with pytest.raises(ValidationError, match="120"):
        services.update_account(account, {"stalled_after_s": 119})


def test_a_new_password_ends_session_and_lease() -> None:
    account = services.create_account(FIELDS)
    Account.objects.update(session={"token": "t"}, login_state="failed", error_count=4)
    credentials = {"user": "sales", "password": "changed-password"}
    changed = services.update_account(account, {"credentials": credentials})
    assert (changed.epoch, dict(changed.session), changed.login_state) == (1, {}, LoginState.NONE)
    assert (changed.error_count, changed.claimed_generation) == (0, None)
    with pytest.raises(StaleEpoch):
        services.finish_run(lease(account), schedule.DueAt(NOON), NOON, None)


def test_a_new_name_leaves_the_check_alone() -> None:
    account = services.create_account(FIELDS)
    assert services.update_account(account, {"name": "Sales"}).epoch == 0


def test_the_same_credentials_again_change_nothing() -> None:
    account = services.create_account(FIELDS)
    changed = services.update_account(account, {"credentials": dict(FIELDS["credentials"])})
    assert changed.epoch == 0


def test_an_update_keeps_what_the_checks_wrote_meanwhile() -> None:
    account = services.create_account(FIELDS)
    store.ingest(lease(account), 0, merge(Batch("next", (message(),))))
    services.update_account(account, {"name": "Sales"})
    account.refresh_from_db()
    assert (account.sequence, account.cursor, account.messages_total) == (1, "next", 1)


def test_a_disabled_account_leaves_its_worker(make_config: Any) -> None:
    account = services.create_account(FIELDS)
    Account.objects.update(worker=make_config())
    changed = services.update_account(account, {"enabled": False})
    assert (changed.worker, changed.epoch) == (None, 1)


def test_an_account_with_data_stays_the_same_account() -> None:
    account = services.create_account(FIELDS)
    store.ingest(lease(account), 0, merge(Batch("next", (message(),))))
    with pytest.raises(ValidationError) as error:
        services.update_account(account, {"identifier": "@other:test"})
    assert set(error.value.message_dict) == {"identifier"}


def test_a_bad_update_changes_nothing() -> None:
    account = services.create_account(FIELDS)
    with pytest.raises(ValidationError):
        services.update_account(account, {"name": "Sales", "interval_s": 0})
    account.refresh_from_db()
    assert account.name == ""


def test_delete_an_account() -> None:
    account = services.create_account(FIELDS)
    held = lease(account)
    store.ingest(held, 0, merge(Batch("next", (message(),))))
    services.delete_account(account)
    assert not Message.objects.exists()
    with pytest.raises(StaleEpoch):
        store.ingest(held, 1, merge(Batch("more", (message(2),))))


def test_check_now_wakes_the_master() -> None:
    account = make_account(next_due_at=NOON + timedelta(days=9999), login_state="failed")
    with CaptureQueriesContext(connection) as ran:
        services.check_now(account.pk)
    account.refresh_from_db()
    assert account.next_due_at <= timezone.now()
    assert account.login_state == LoginState.NONE
    assert f"pg_notify('muster_accounts', '{account.pk}')" in " ".join(q["sql"] for q in ran)


def test_check_now_of_no_account() -> None:
    with pytest.raises(Account.DoesNotExist):
        services.check_now(4711)


# --- checks -----------------------------------------------------------------------------------


def fail(account: Account, **fields: Any) -> schedule.Decision:
    problem = services.Problem(**{"error": "the server is away", **fields})
    return services.record_failure(lease(account), problem, NOON, 0.0, "worker-1")


def test_a_series_of_failures_leaves_one_run() -> None:
    account = make_account()
    assert [fail(account) for _ in range(3)] == [
        schedule.DueAt(NOON + timedelta(seconds=s)) for s in (1, 2, 4)
    ]
    account.refresh_from_db()
    assert (account.error_count, account.last_error) == (3, "the server is away")
    assert (account.last_error_at, account.next_due_at) == (NOON, NOON + timedelta(seconds=4))
    run = SyncRun.objects.get()
    assert (run.outcome, run.sequence, run.error) == ("failed", None, "the server is away")
    store.ingest(lease(account), 0, merge(Batch("")))
    fail(account)
    assert SyncRun.objects.filter(outcome="failed").count() == 2


def test_a_failure_that_waits_for_a_person() -> None:
    account = make_account()
    due = account.next_due_at
    decision = fail(account, needs_person=True, login_state=LoginState.FAILED)
    assert decision == schedule.WaitForPerson()
    account.refresh_from_db()
    assert (account.login_state, account.next_due_at) == (LoginState.FAILED, due)


def test_reports_with_a_stale_epoch_change_nothing() -> None:
    account = make_account(epoch=5)
    old = Lease(account.pk, 4)
    for report in (
        lambda: services.begin_run(old, NOON),
        lambda: services.record_login(old, LoginState.SUCCESS, {"token": "t"}),
        lambda: services.start_over(old, "", "text", NOON),
        lambda: services.record_failure(old, services.Problem("x"), NOON, 0),
        lambda: services.finish_run(old, schedule.DueAt(NOON), NOON, None),
    ):
        with pytest.raises(StaleEpoch) as stale:
            report()
        assert stale.value.current == 5
    before, after = account, Account.objects.get()
    assert (after.session, after.error_count) == (before.session, before.error_count)


def test_a_run_begins_with_all_that_it_needs(make_config: Any) -> None:
    config = make_config(concurrency=10)
    services_lease = lease(services.create_account(FIELDS))
    Account.objects.update(worker=config, cursor="here", sequence=3, session={"token": "t"})
    with CaptureQueriesContext(connection) as ran:
        run = services.begin_run(services_lease, NOON)
    assert len(ran) == 2
    assert (run.cursor, run.sequence, run.worker_id) == ("here", 3, config.worker_id)
    assert run.work == {Work.AUDITS}  # a new account's first
    assert run.ref.credentials["password"] == "hunter2hunter2"
    assert "hunter2" not in repr(run)
    account = Account.objects.get()
    assert account.next_due_at == NOON + timedelta(seconds=services.LEASE_S)


def test_a_disabled_account_is_not_checked() -> None:
    account = make_account(enabled=False)
    with pytest.raises(StaleEpoch):
        services.begin_run(lease(account), NOON)


def test_old_receipts_are_pruned_in_batches() -> None:
    account = make_account()
    for days in (40, 35, 31, 29):
        SyncRun.objects.create(
            account=account,
            epoch=0,
            outcome="committed",
            sequence=days,
            finished_at=NOON - timedelta(days=days),
        )
    before = NOON - timedelta(days=30)
    assert [services.prune_runs(before, most=2) for _ in range(3)] == [2, 1, 0]
    assert SyncRun.objects.get().sequence == 29


def receipt(account: Account, number: int, at: datetime) -> SyncRun:
    return SyncRun(account=account, epoch=0, outcome="committed", sequence=number, finished_at=at)


def delivery(account: Account, number: int, at: datetime) -> HookDelivery:
    return HookDelivery(account=account, delivery_id=number, body=b"", state="done", received_at=at)


def audit(account: Account, _number: int, at: datetime, outcome: str = "complete") -> Audit:
    ended = None if outcome == "running" else at
    return Audit(account=account, outcome=outcome, since=at, started_at=at, finished_at=ended)


def login(account: Account, _number: int, at: datetime) -> LoginSession:
    return LoginSession(account=account, state="success", expires_at=at, finished_at=at)


def gap(account: Account, number: int, at: datetime) -> Gap:
    return Gap(account=account, key=str(number), found_at=at, closed_at=at)


@pytest.mark.parametrize("too_old", [0, 30])
@pytest.mark.parametrize(
    ("statement", "make"),
    [
        (sql.books.PRUNE_RUNS, receipt),
        (sql.deliveries.PRUNE_DELIVERIES, delivery),
        (sql.books.PRUNE_AUDITS, audit),
        (sql.books.PRUNE_LOGINS, login),
        (sql.books.PRUNE_GAPS, gap),
    ],
)
def test_pruning_reads_no_more_than_it_may_delete(statement: str, make: Any, too_old: int) -> None:
    """Also when nothing is left to delete: else each hour ends with a look at all there is."""
    account, now = make_account(), timezone.now()
    before, young = now - timedelta(days=30), now - timedelta(days=1)
    old = now - timedelta(days=40)
    rows = [make(account, n, old if n < too_old else young) for n in range(2_000)]
    model = type(rows[0])
    model.objects.bulk_create(rows)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {model._meta.db_table}")
        values: dict[str, Any] = {"before": before, "most": 100}
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, values)
        (plan,) = cursor.fetchone()
    assert most_rows(plan[0]["Plan"]) <= 100, plan
    assert model.objects.count() == 2_000 - too_old


def test_history_is_pruned_and_what_pages_need_is_kept() -> None:
    """Of audits the last of each account and its last complete one; what is open or runs."""
    now = timezone.now()
    old, young = now - timedelta(days=91), now - timedelta(days=89)
    busy, idle, failing = make_account(), make_account(), make_account()
    kept: list[Audit] = []
    for account, outcome, at, stays in (
        (busy, "complete", old, False),
        (busy, "failed", old, False),
        (busy, "complete", young, True),
        (idle, "complete", old, False),
        (idle, "complete", old, True),  # proves up to when it is complete
        (idle, "failed", old, False),
        (idle, "failed", old, True),
        (failing, "failed", old, False),
        (failing, "running", old, True),
    ):
        row = audit(account, 0, at, outcome)
        row.save()
        kept += [row] if stays else []
    rows = [login(busy, 0, old), login(busy, 0, young), gap(busy, 1, old), gap(busy, 2, young)]
    rows.append(LoginSession(account=busy, expires_at=old, created_at=old))
    rows.append(Gap(account=busy, key="open", found_at=old))
    for one in rows:
        one.save()
    prune_history()
    assert set(Audit.objects.all()) == set(kept)
    assert set(LoginSession.objects.all()) == {rows[1], rows[4]}
    assert set(Gap.objects.all()) == {rows[3], rows[5]}


def test_history_is_pruned_in_batches_though_much_is_kept() -> None:
    """What stays of accounts that are not audited any more stands before what goes."""
    now = timezone.now()
    old, before = now - timedelta(days=100), now - timedelta(days=90)
    for _ in range(5):
        audit(make_account(), 0, old - timedelta(days=1)).save()
    account = make_account()
    Audit.objects.bulk_create([audit(account, n, old) for n in range(6)])
    assert [services.prune_audits(before, most=2) for _ in range(4)] == [2, 2, 1, 0]
    assert Audit.objects.count() == 6


# --- queries ----------------------------------------------------------------------------------


def fill(number: int, config: WorkerConfig) -> None:
    for _ in range(number):
        account = make_account(worker=config)
        store.ingest(lease(account), 0, merge(Batch("x", (message(1), message(2, "c2")))))


@pytest.mark.parametrize("number", [1, 5])
def test_lists_take_one_query_each(make_config: Any, number: int) -> None:
    fill(number, make_config())
    with CaptureQueriesContext(connection) as ran:
        assert len([(a.worker and a.worker.runtime.state) for a in queries.accounts()]) == number
        talks = list(queries.conversations())
        assert len({talk.account.identifier for talk in talks}) == number
        assert len(queries.messages(talks[0].pk)) == 1
    assert len(ran) == 3
    assert "credentials" not in " ".join(query["sql"] for query in ran)


def test_totals_in_one_query(make_config: Any) -> None:
    assert queries.totals()["messages"] == 0
    fill(3, make_config())
    make_account()
    make_account(error_count=2)
    make_account(login_state="failed", enabled=False)
    with CaptureQueriesContext(connection) as ran:
        totals = queries.totals()
    assert len(ran) == 1
    assert totals == {
        "accounts": 6,
        "syncing": 3,
        "failing": 1,
        "stalled": 0,
        "conversations": 6,
        "messages": 6,
        "posts": 0,
        "comments": 0,
        "unread": 6,
    }


def test_errors_are_shown_whatever_the_platform_wrote() -> None:
    """NUL and half of a surrogate pair can't be stored, and cost neither notice nor check."""
    account = make_account()
    held = lease(account)
    services.start_over(held, "", "a\x00b\ud800" + "c" * 3000, NOON)
    account.refresh_from_db()
    assert account.notice.startswith("a\ufffdb\ufffdccc")
    assert len(account.notice) == 2000
    services.record_failure(held, services.Problem("x\ud800\x00"), NOON, 0.5)
    account.refresh_from_db()
    assert account.last_error == "x\ufffd\ufffd"
