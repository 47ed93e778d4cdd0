"""The history of workers [L17]: written in one statement a pass, rolled up, pruned, read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lifecycle import duties, queries, services
from lifecycle.metrics_duty import MetricsDuty
from lifecycle.models import WorkerConfig, WorkerMetric, WorkerRuntime
from lifecycle.services import metrics
from lifecycle.types import Instance
from tests.db.api_helpers import detail_of, errors_of

pytestmark = pytest.mark.django_db

MakeConfig = Callable[..., WorkerConfig]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def worker(make_config: MakeConfig) -> Instance:
    return with_process(make_config(worker_id="w"))


def with_process(config: WorkerConfig) -> Instance:
    WorkerRuntime.objects.filter(pk=config.pk).update(
        state="running", generation=1, last_generation=1, process_id=7
    )
    return Instance(config.worker_id, 1)


def count(tasks: int, errors: int = 0, active: int = 0) -> None:
    WorkerRuntime.objects.update(tasks_total=tasks, error_count=errors, active_tasks=active)


def stored(step_s: int) -> list[tuple[Any, ...]]:
    rows = WorkerMetric.objects.filter(step_s=step_s).order_by("time")
    return list(rows.values_list("time", "cpu_usage", "memory_mb", "active_tasks", "tasks_total"))


def test_a_pass_shows_what_is_and_keeps_it(worker: Instance) -> None:
    count(5, errors=1, active=2)
    services.sampled([(worker, 12.5, 300.0)], at(5))
    runtime = queries.runtime("w")
    assert (runtime.cpu_usage, runtime.memory_usage_mb) == (12.5, 300.0)
    assert stored(10) == [(NOON, 12.5, 300.0, 2.0, 5)]


def test_a_second_pass_in_a_step_takes_the_place_of_the_first(worker: Instance) -> None:
    services.sampled([(worker, 10.0, 300.0)], at(1))
    services.sampled([(worker, 30.0, 100.0)], at(9))
    assert [row[:3] for row in stored(10)] == [(NOON, 30.0, 100.0)]


def test_old_instances_and_ended_workers_leave_no_points(
    worker: Instance, make_config: MakeConfig
) -> None:
    make_config(worker_id="idle")
    samples = [(Instance("w", 0), 1.0, 1.0), (Instance("idle", 0), 1.0, 1.0)]
    services.sampled([*samples, (Instance("unknown", 1), 1.0, 1.0)], at(5))
    assert stored(10) == []


@pytest.mark.parametrize("number", [1, 30])
def test_a_pass_is_one_statement(make_config: MakeConfig, number: int) -> None:
    samples = [(with_process(make_config()), 1.0, 1.0) for _ in range(number)]
    with CaptureQueriesContext(connection) as statements:
        services.sampled(samples, at(5))
    assert len(statements) == 1
    assert WorkerMetric.objects.count() == number


def test_finer_points_become_coarser_ones(worker: Instance) -> None:
    for number in range(12):
        count(number, active=number % 2)
        services.sampled([(worker, float(number), 100.0 + number)], at(10 * number + 5))
    metrics.roll_up()
    assert stored(60) == [(NOON, 2.5, 102.5, 0.5, 5), (at(60), 8.5, 108.5, 0.5, 11)]
    assert stored(600) == [(NOON, 5.5, 105.5, 0.5, 11)]


def test_the_newest_coarse_point_grows_and_rolling_up_again_changes_nothing(
    worker: Instance,
) -> None:
    services.sampled([(worker, 10.0, 1.0)], at(5))
    metrics.roll_up()
    services.sampled([(worker, 20.0, 3.0)], at(15))
    metrics.roll_up()
    first = stored(60)
    assert [row[:3] for row in first] == [(NOON, 15.0, 2.0)]
    metrics.roll_up()
    assert stored(60) == first


def test_what_a_master_missed_is_rolled_up_later(worker: Instance) -> None:
    services.sampled([(worker, 10.0, 1.0)], at(5))
    metrics.roll_up()
    for minute in range(1, 40):
        services.sampled([(worker, 20.0, 1.0)], at(60 * minute + 5))
    metrics.roll_up()
    assert len(stored(60)) == 40
    assert len(stored(600)) == 4


def test_old_points_go(worker: Instance) -> None:
    for age in (timedelta(minutes=59), timedelta(minutes=70), timedelta(days=2)):
        services.sampled([(worker, 1.0, 1.0)], NOON - age)
    metrics.roll_up()
    assert metrics.prune(NOON) == 2 + 1
    assert (len(stored(10)), len(stored(60)), len(stored(600))) == (1, 2, 3)
    metrics.prune(NOON + timedelta(days=29))
    assert (len(stored(10)), len(stored(60)), len(stored(600))) == (0, 0, 2)


def test_pruning_goes_in_parts(worker: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PRUNED_AT_ONCE", 2)
    for number in range(5):
        services.sampled([(worker, 1.0, 1.0)], at(10 * number))
    assert metrics.prune(NOON + timedelta(days=60)) == 5


def test_the_masters_duty_does_both(worker: Instance) -> None:
    (duty,) = [one for one in duties.registered() if one.name == "metrics"]
    services.sampled([(worker, 1.0, 1.0)], NOON - timedelta(hours=3))
    assert duty.run(NOON) == at(60)
    assert (stored(10), len(stored(60)), len(stored(600))) == ([], 1, 1)


@pytest.mark.parametrize("number", [1, 20])
def test_the_duty_asks_the_same_for_any_fleet(make_config: MakeConfig, number: int) -> None:
    samples = [(with_process(make_config()), 1.0, 1.0) for _ in range(number)]
    services.sampled(samples, at(5))
    with CaptureQueriesContext(connection) as statements:
        MetricsDuty().run(NOON)
    assert len(statements) == 7


def test_history_goes_with_its_config(worker: Instance) -> None:
    services.sampled([(worker, 1.0, 1.0)], at(5))
    WorkerRuntime.objects.update(state="stopped", process_id=None)
    services.delete_config(WorkerConfig.objects.get(), "ann")
    assert not WorkerMetric.objects.exists()


# --- the API -----------------------------------------------------------------------------------


def test_metrics_over_http(worker: Instance, api_client: Any) -> None:
    now = timezone.now()
    for number, ago in enumerate((30, 20, 10)):
        count(4 * number, errors=number)
        services.sampled([(worker, 10.0 * number, 100.0)], now - timedelta(seconds=ago))
    with CaptureQueriesContext(connection) as statements:
        answer = api_client.get("/api/v1/workers/w/metrics?period=1h")
    body = answer.json()
    assert answer.status_code == 200
    assert (body["worker_id"], body["period"], body["resolution"]) == ("w", "1h", 10)
    assert [point["value"] for point in body["cpu_usage"]] == [0.0, 10.0, 20.0]
    assert [point["value"] for point in body["memory_usage"]] == [100.0] * 3
    assert [point["value"] for point in body["task_count"]] == [4.0, 4.0]
    assert [point["value"] for point in body["error_rate"]] == [6.0, 6.0]
    about_metrics = [q for q in statements if "lifecycle_workermetric" in q["sql"]]
    assert len(about_metrics) == 1


@pytest.mark.parametrize("points", [1, 300])
def test_metrics_take_two_queries(worker: Instance, points: int) -> None:
    for number in range(points):
        services.sampled([(worker, 1.0, 1.0)], NOON - timedelta(seconds=10 * number))
    with CaptureQueriesContext(connection) as statements:
        body = queries.metrics("w", "1h", NOON)
    assert len(statements) == 2
    assert len(body["cpu_usage"]) == points


def test_a_worker_that_never_ran_has_empty_series(worker: Instance, api_client: Any) -> None:
    body = api_client.get("/api/v1/workers/w/metrics").json()
    assert body["period"] == "1h"
    assert body["cpu_usage"] == body["task_count"] == []


def test_an_unknown_period_is_told_the_choices(worker: Instance, api_client: Any) -> None:
    answer = api_client.get("/api/v1/workers/w/metrics?period=2h")
    assert set(errors_of(answer, 400)) == {"period"}
    assert "15m, 1h, 6h, 24h, 7d, 30d" in detail_of(answer)


def test_an_unknown_worker_or_parameter(worker: Instance, api_client: Any) -> None:
    assert api_client.get("/api/v1/workers/nobody/metrics").status_code == 404
    assert api_client.get("/api/v1/workers/w/metrics?span=1h").status_code == 400
