"""Rolling restarts over the API [L8]: begun, watched, aborted, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from lifecycle import services
from lifecycle.models import Rollout, WorkerConfig, WorkerRuntime
from tests.db.api_helpers import V1, detail_of, errors_of, run
from tests.db.test_rollouts import complete_restart

ROLLOUTS = f"{V1}/workers/rollouts"
Maker = Callable[..., Any]

pytestmark = pytest.mark.django_db


@pytest.fixture
def three(make_config: Maker) -> list[str]:
    for name in ("a", "b", "c"):
        make_config(worker_id=name)
        run(name)
    return ["a", "b", "c"]


def begin(client: APIClient, **body: Any) -> Any:
    return client.post(ROLLOUTS, body, format="json")


def test_begin_and_watch(api: Maker, operator: Any, three: list[str]) -> None:
    client = api(operator)
    response = begin(client, worker_ids=["b", "a", "b"], max_surge=2, timeout=5000)
    assert response.status_code == 201
    body = response.json()
    assert response["Location"].endswith(f"{ROLLOUTS}/{body['id']}")
    assert (
        body.items()
        >= {
            "state": "running",
            "reason": "",
            "max_surge": 2,
            "max_unavailable": 0,
            "timeout": 5000,
            "actor": "operator",
            "finished_at": None,
        }.items()
    )
    assert [step["worker_id"] for step in body["steps"]] == ["b", "a"]
    counts = {"total": 2, "pending": 2, "running": 0, "done": 0, "failed": 0, "skipped": 0}
    assert body["progress"] == counts

    services.advance_rollout(timezone.now())
    complete_restart("b")
    services.advance_rollout(timezone.now())
    body = client.get(f"{ROLLOUTS}/{body['id']}").json()
    assert body["progress"] == {**counts, "pending": 0, "running": 1, "done": 1}
    assert [(step["state"], step["replaced_first"]) for step in body["steps"]] == [
        ("done", True),
        ("running", True),
    ]
    assert body["steps"][0]["finished_at"]


def test_outdated_ones(api_client: APIClient, three: list[str]) -> None:
    nothing = begin(api_client, outdated=True)
    assert errors_of(nothing, 409) == {None: "rejected"}
    services.update_config(WorkerConfig.objects.get(worker_id="b"), {"concurrency": 3}, "ann")
    body = begin(api_client, outdated=True).json()
    assert [step["worker_id"] for step in body["steps"]] == ["b"]


def test_one_at_a_time_and_abort_is_idempotent(api_client: APIClient, three: list[str]) -> None:
    first = begin(api_client, worker_ids=three).json()
    second = begin(api_client, worker_ids=["a"])
    assert errors_of(second, 409) == {None: "rejected"}
    assert str(first["id"]) in detail_of(second)
    for _ in range(2):
        response = api_client.post(f"{ROLLOUTS}/{first['id']}/abort")
        assert response.status_code == 200
        assert response.json()["state"] == "aborted"
        assert response.json()["reason"] == "aborted by admin"
        assert response.json()["progress"]["skipped"] == 3
    assert begin(api_client, worker_ids=["a"]).status_code == 201


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, {"non_field_errors"}),
        ({"outdated": False}, {"non_field_errors"}),
        ({"outdated": True, "worker_ids": ["a"]}, {"non_field_errors"}),
        ({"worker_ids": []}, {"worker_ids"}),
        ({"worker_ids": ["a"] * 10_001}, {"worker_ids"}),
        ({"worker_ids": "a"}, {"worker_ids"}),
        ({"worker_ids": [{}]}, {"worker_ids.0"}),
        ({"worker_ids": ["a"], "outdated": "perhaps"}, {"outdated"}),
        ({"worker_ids": ["a"], "max_surge": 0}, {"max_surge"}),
        ({"worker_ids": ["a"], "max_surge": -1}, {"max_surge"}),
        ({"worker_ids": ["a"], "max_unavailable": 1001}, {"max_unavailable"}),
        ({"worker_ids": ["a"], "timeout": 0}, {"timeout"}),
        ({"worker_ids": ["a"], "timeout": 3_600_001}, {"timeout"}),
        ({"worker_ids": ["a"], "timeout": "soon"}, {"timeout"}),
        ({"worker_ids": ["a"], "surge": 1}, {"surge"}),
    ],
)
def test_bad_wishes(
    api_client: APIClient, three: list[str], body: dict[str, Any], names: set[str]
) -> None:
    assert set(errors_of(begin(api_client, **body), 400)) == names
    assert not Rollout.objects.exists()


def test_what_is_not_there(api_client: APIClient, three: list[str]) -> None:
    unknown = begin(api_client, worker_ids=["a", "nobody"])
    assert errors_of(unknown, 404) == {None: "unknown_worker"}
    assert "nobody" in detail_of(unknown)
    for number in ("7", "9999999999999999999"):
        assert errors_of(api_client.get(f"{ROLLOUTS}/{number}"), 404) == {None: "not_found"}
        assert errors_of(api_client.post(f"{ROLLOUTS}/{number}/abort"), 404)
    assert errors_of(api_client.get(f"{ROLLOUTS}/seven"), 404)
    assert not Rollout.objects.exists()


def test_stopping_and_starting_is_a_choice(api_client: APIClient, three: list[str]) -> None:
    begin(api_client, worker_ids=three, max_surge=0, max_unavailable=2)
    services.advance_rollout(timezone.now())
    rows = WorkerRuntime.objects.filter(wanted_generation=2)
    assert sorted(row.config.worker_id for row in rows) == ["a", "b"]
    assert not any(row.replace_first for row in rows)


def test_the_list_is_newest_first_in_pages_and_by_state(
    api_client: APIClient, three: list[str]
) -> None:
    ids = []
    for _ in range(3):
        ids.append(begin(api_client, worker_ids=three).json()["id"])
        services.abort_rollout(ids[-1], "ann")
    ids.append(begin(api_client, worker_ids=["a"]).json()["id"])
    first = api_client.get(f"{ROLLOUTS}?page_size=3").json()
    second = api_client.get(first["next"]).json()
    assert [row["id"] for row in first["results"] + second["results"]] == ids[::-1]
    assert second["next"] is None
    running = api_client.get(f"{ROLLOUTS}?state=running").json()["results"]
    assert [(row["id"], row["progress"]["total"]) for row in running] == [(ids[-1], 1)]
    assert "steps" not in running[0]
    assert errors_of(api_client.get(f"{ROLLOUTS}?state=odd"), 400) == {"state": "invalid_choice"}


def test_queries_grow_neither_with_rollouts_nor_with_steps(
    api: Maker, viewer: Any, three: list[str], make_config: Maker
) -> None:
    client = api(viewer)

    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    few = services.begin_rollout(["a"], "ann")
    services.abort_rollout(few.pk, "ann")
    listed, shown = queries(ROLLOUTS), queries(f"{ROLLOUTS}/{few.pk}")
    many = services.begin_rollout(
        [*three, *(make_config(worker_id=f"w{n}").worker_id for n in range(20))], "ann"
    )
    assert queries(ROLLOUTS) == listed <= 5
    assert queries(f"{ROLLOUTS}/{many.pk}") == shown <= 7
