"""`/metrics` and the totals behind it [S8]; `sync_stalled` [S7]."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from crm import metrics
from lifecycle.models import WorkerConfig, WorkerRuntime
from sync import duties, platforms, services
from sync.engine.tally import Tally
from sync.errors import PlatformUnavailable
from sync.models import MIN_STALLED_S, Account, DeadLetter, FeedEntry, PlatformServer, SyncTotal
from sync.types import Batch, Receipt
from tests.db.engine_stage import check
from tests.db.sync_stage import TinyPlatform, make_account, message, script

pytestmark = pytest.mark.django_db

LABELS = {"platform": "tiny", "worker": "test-1"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyPlatform:
    platform = TinyPlatform()
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": platform})
    metrics.cached.forget()
    return platform


def worker(make_config: Callable[..., WorkerConfig]) -> WorkerConfig:
    made = make_config()
    WorkerRuntime.objects.filter(pk=made.pk).update(
        state="running", desired_state="running", generation=1, last_generation=1
    )
    return made


def series(client: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    metrics.cached.forget()
    answer = client.get("/metrics", HTTP_ACCEPT="text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def value(found: Any, name: str, **labels: str) -> float:
    return float(found[f"worker_data_sync_{name}", frozenset({**LABELS, **labels}.items())])


def test_the_series_say_what_checks_did(
    make_config: Any, api_client: Any, tiny: TinyPlatform
) -> None:
    account = make_account(worker=worker(make_config), session={"t": "t"}, claimed_generation=1)
    before = timezone.now().timestamp()
    tiny.on_read = script(Batch("1", (message(1), message(2))))
    check(account)
    tiny.on_read = script(Batch("2", (message(2), message(3))))
    check(account)
    tiny.on_read = script(PlatformUnavailable("away"))
    check(account)
    found = series(api_client)
    assert value(found, "total") == 2
    assert value(found, "errors") == 1
    assert value(found, "last_success_time") >= before - 1
    assert value(found, "batches_total") == 2
    assert value(found, "records_total", result="new") == 3
    assert value(found, "records_total", result="same") == 1
    assert value(found, "bytes_total") > 0
    assert value(found, "accounts") == 1
    troubled = frozenset({("platform", "tiny"), ("state", "closed")})
    assert found["worker_data_sync_troubled_servers", troubled] == 1
    assert not any("account" in dict(labels) for _name, labels in found)


def test_a_stale_epoch_is_counted(make_config: Any, api_client: Any, tiny: TinyPlatform) -> None:
    account = make_account(worker=worker(make_config), session={"t": "t"}, epoch=3)
    Account.objects.update(epoch=4)
    check(account)
    found = series(api_client)
    unknown = frozenset({("platform", "unknown"), ("worker", "unknown")})
    assert found["worker_data_sync_stale_epochs_total", unknown] == 1


def test_counters_only_rise_though_receipts_are_pruned(
    make_config: Any, api_client: Any, tiny: TinyPlatform
) -> None:
    account = make_account(worker=worker(make_config), session={"t": "t"})
    tiny.on_read = script(Batch("1", (message(1),)))
    check(account)
    before = series(api_client)
    account.runs.all().delete()
    after = series(api_client)
    assert value(after, "batches_total") == value(before, "batches_total") == 1


def test_what_could_not_be_written_is_added_later() -> None:
    tally, key = Tally(), ("tiny", "w")
    tally.stored(key, Receipt(1, read=2, new=1, changed=0, same=1, refused=0, size=9))
    taken = tally.taken()
    assert tally.taken() == []
    tally.back(taken)
    tally.synced(key, timezone.now())
    services.add_totals(tally.taken())
    services.add_totals([])
    row = SyncTotal.objects.get()
    assert (row.batches, row.new, row.same, row.size, row.syncs) == (1, 1, 1, 9, 1)


def test_the_gauges_say_who_watches_and_who_is_late(make_config: Any, api_client: Any) -> None:
    config, now = worker(make_config), timezone.now()
    make_account(worker=config, claimed_generation=1, watched_at=now, last_sync_at=now)
    late = make_account(
        worker=config,
        claimed_generation=0,
        watched_at=now,
        last_sync_at=now - timedelta(seconds=500),
        stalled_since=now,
    )
    make_account(worker=config, enabled=False, last_sync_at=now - timedelta(days=9))
    DeadLetter.objects.create(account=late, kind="message", raw={}, error="odd", identity="1")
    found = series(api_client)
    assert (value(found, "watched_accounts"), value(found, "accounts")) == (1, 2)
    assert value(found, "stalled_accounts") == 1
    assert 499 < value(found, "lag_seconds") < 560
    assert found["worker_data_sync_dead_letters", frozenset({("platform", "tiny")})] == 1


@pytest.mark.parametrize("number", [1, 30])
def test_a_scrape_takes_the_same_queries_for_any_number_of_accounts(
    make_config: Any, api_client: Any, django_assert_num_queries: Any, number: int
) -> None:
    config = worker(make_config)
    for _ in range(number):
        make_account(worker=config)
    series(api_client)
    metrics.cached.forget()
    with django_assert_num_queries(6):
        metrics.cached.text()
    with django_assert_num_queries(0):
        metrics.cached.text()


def test_metrics_need_a_login(api: Any, viewer: User) -> None:
    refused = api().get("/metrics", HTTP_ACCEPT="text/plain")
    assert refused.status_code == 401
    assert b"authentication_failed" in refused.content or b"not_authenticated" in refused.content
    assert api(viewer).get("/metrics").status_code == 200


# --- stalled ----------------------------------------------------------------------------------


def stale_by(seconds: float, **fields: Any) -> Account:
    account = make_account(last_sync_at=timezone.now() - timedelta(seconds=seconds), **fields)
    Account.objects.filter(pk=account.pk).update(
        updated_at=timezone.now() - timedelta(days=1), created_at=timezone.now() - timedelta(days=2)
    )
    return account


def is_stalled(account: Account) -> bool:
    account.refresh_from_db()
    return account.stalled_since is not None


def test_an_account_without_a_sync_for_five_minutes_is_stalled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stalled, fresh = stale_by(301), stale_by(290)
    duties.FreshnessDuty().run(timezone.now())
    assert (is_stalled(stalled), is_stalled(fresh)) == (True, False)
    assert f"sync_stalled: {stalled} has not synced since" in caplog.text
    entry = FeedEntry.objects.get()
    assert (entry.account_id, entry.changes) == (stalled.pk, {"account": {"changed": [stalled.pk]}})
    duties.FreshnessDuty().run(timezone.now())
    assert FeedEntry.objects.count() == 1  # told once
    Account.objects.filter(pk=stalled.pk).update(last_sync_at=timezone.now())
    with caplog.at_level("INFO"):
        duties.FreshnessDuty().run(timezone.now())
    assert not is_stalled(stalled)
    assert "is stalled no more" in caplog.text


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"enabled": False}, False),
        ({"login_state": "failed"}, False),
        ({"stalled_after_s": 3600}, False),
        ({"stalled_after_s": 399}, True),
        ({"stalled_after_s": 120}, True),
        ({"interval_s": 600}, False),  # it was not due yet
        ({"current_interval_s": 600.0}, False),
        ({"last_sync_at": None}, True),
        ({"error_count": 4}, True),
    ],
)
def test_who_is_stalled(fields: dict[str, Any], expected: bool) -> None:
    account = stale_by(400)
    Account.objects.filter(pk=account.pk).update(**fields)
    services.judge_freshness(timezone.now())
    assert is_stalled(account) == expected


def test_a_wait_without_news_is_no_stall() -> None:
    """It is told every 60 s, and written with the next renewal of leases."""
    account = stale_by(110)
    Account.objects.update(stalled_after_s=MIN_STALLED_S, interval_s=30)
    services.judge_freshness(timezone.now())
    assert not is_stalled(account)


def test_what_is_set_is_what_counts() -> None:
    """From the smallest bound that is taken on."""
    account = stale_by(MIN_STALLED_S + 5)
    Account.objects.update(stalled_after_s=MIN_STALLED_S, interval_s=30)
    services.judge_freshness(timezone.now())
    assert is_stalled(account)


def test_an_account_that_people_just_changed_has_its_time(viewer: User) -> None:
    account = stale_by(4000)
    Account.objects.update(updated_at=timezone.now())
    services.judge_freshness(timezone.now())
    assert not is_stalled(account)


def test_one_statement_judges_all(django_assert_num_queries: Any) -> None:
    for _ in range(20):
        stale_by(10)
    with django_assert_num_queries(3):  # and its savepoint
        services.judge_freshness(timezone.now())


def test_servers_in_trouble_are_listed_first(db: None) -> None:
    from sync import overview

    for endpoint, state, failures in (("a", "closed", 1), ("b", "open", 7), ("c", "closed", 0)):
        PlatformServer.objects.create(
            platform="tiny", endpoint=endpoint, state=state, failures=failures
        )
    assert [one.endpoint for one in overview.servers()] == ["b", "a", "c"]


def test_the_tally_survives_a_database_that_is_away(
    make_config: Any, tiny: TinyPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_totals: object) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(services, "add_totals", away)
    account = make_account(worker=worker(make_config), session={"t": "t"})
    tiny.on_read = script(Batch("1", (message(1),)))
    assert check(account).messages_total == 1
