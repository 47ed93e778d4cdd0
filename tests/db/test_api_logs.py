"""Logs of workers over the API: two logs at one address, filters, following, errors [C1, L12]."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from lifecycle import services
from lifecycle.api import followers
from lifecycle.api.event_stream import EventStream
from lifecycle.backends.base import LogStart
from lifecycle.logs.lines import Place
from lifecycle.masking import MASK
from lifecycle.models import WorkerConfig
from tests.db.api_helpers import V1, AwayLog, PrintedLog, detail_of, errors_of, run

CONFIGS, WORKERS = f"{V1}/worker-configs", f"{V1}/workers"
Maker = Callable[..., Any]
BAD = json.dumps({"time": "2026-01-01T00:00:05Z", "level": "error", "event": "bad"})
GOOD = json.dumps({"time": "2026-01-01T00:00:06Z", "level": "info", "event": "good"})
NOON = "2026-01-01T12:00:00Z"


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> PrintedLog:
    log = PrintedLog("begun", BAD, GOOD, "raw")
    monkeypatch.setattr("lifecycle.logs.reading.backend_for", lambda _config: log)
    return log


@pytest.fixture
def logs(api_client: APIClient, make_config: Maker, printed: PrintedLog) -> Callable[[str], Any]:
    make_config(worker_id="w")
    return lambda query: api_client.get(f"{WORKERS}/w/logs{query}")


# --- the process's log -----------------------------------------------------------------------


def test_process_log(logs: Callable[[str], Any], printed: PrintedLog) -> None:
    assert logs("").json() == {
        "worker_id": "w",
        "stream": "stdout",
        "lines": ["begun", BAD, GOOD, "raw"],
        "truncated": False,
        "cursor": f"3:{7 + len(printed.text)}",
    }
    assert logs("?tail=1").json()["lines"] == ["raw"]
    logs("?tail=10000&stream=stderr")
    assert printed.asked == [
        ("w", "stdout", LogStart(tail=100)),
        ("w", "stdout", LogStart(tail=1)),
        ("w", "stderr", LogStart(tail=10_000)),
    ]


def test_secrets_of_former_versions_are_hidden(
    logs: Callable[[str], Any], printed: PrintedLog, make_config: Maker
) -> None:
    """[L12] Older lines hold what the config has no more."""
    lines = ["first-Ab9", "second-Ab9", "other-Ab9", "never-Ab9"]
    printed.text = "".join(f"{line}\n" for line in lines).encode()
    make_config(worker_id="x", env_variables={"API_TOKEN": "other-Ab9"})
    for value in ("first-Ab9", "second-Ab9"):
        config = WorkerConfig.objects.get(worker_id="w")
        services.update_config(config, {"env_variables": {"API_TOKEN": value}}, "ann")
        shown = logs("").json()["lines"]
        assert shown[0] == MASK
    assert shown == [MASK, MASK, "other-Ab9", "never-Ab9"]
    config = WorkerConfig.objects.get(worker_id="w")
    services.update_config(config, {"env_variables": {}}, "ann")
    logs("")
    with CaptureQueriesContext(connection) as again:
        assert logs("").json()["lines"] == shown
    assert not [one for one in again if "historicalworkerconfig" in one["sql"]]


def test_with_stream_or_tail_the_filters_are_for_the_process_log(
    logs: Callable[[str], Any], printed: PrintedLog
) -> None:
    since = datetime(2026, 1, 1, 0, 0, 6, tzinfo=UTC)
    at = "2026-01-01T00:00:06Z"
    assert logs("?stream=stdout&level=error").json()["lines"] == [BAD]
    assert logs(f"?stream=stdout&since={at}").json()["lines"] == [GOOD, "raw"]
    assert logs(f"?tail=1&level=info&since={at}").json()["lines"] == ["raw"]
    starts = [start for _, _, start in printed.asked]
    assert starts == [LogStart(), LogStart(since=since), LogStart(since=since)]


def test_what_is_further_back_than_one_looks_is_said(
    logs: Callable[[str], Any], printed: PrintedLog
) -> None:
    printed.whole = False
    assert logs("?stream=stdout&level=error").json()["truncated"] is True
    assert logs("?stream=stdout&level=error&tail=1").json()["truncated"] is False


def test_secrets_are_hidden_when_shown(
    api: Maker, viewer: Any, administrator: Any, make_config: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PrintedLog("I have s3cret-word", "Authorization: Bearer abc12345", "password=x y")
    monkeypatch.setattr("lifecycle.logs.reading.backend_for", lambda _config: log)
    make_config(worker_id="w", env_variables={"MY_TOKEN": "s3cret-word"})
    for user in (viewer, administrator):
        lines = api(user).get(f"{WORKERS}/w/logs?tail=9").json()["lines"]
        assert lines == ["I have ********", "Authorization: ********", "password=******** y"]


# --- the lifecycle's log ---------------------------------------------------------------------


def test_lifecycle_log(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="w")
    run("w")
    rows = api_client.get(f"{WORKERS}/w/logs?limit=2").json()["logs"]
    assert [row["to_state"] for row in rows] == ["running", "starting"]
    assert api_client.get(f"{WORKERS}/w/logs?level=error").json()["logs"] == []
    later = f"{WORKERS}/w/logs?since=2100-01-01T00:00:00Z"
    assert api_client.get(later).json() == {"worker_id": "w", "logs": []}
    earlier = f"{WORKERS}/w/logs?level=info&since=2000-01-01T00:00:00%2B08:00"
    assert api_client.get(earlier).json()["logs"]


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["tail=5&limit=5", "stream=stderr&limit=5&level=info"])
def test_the_two_logs_do_not_mix(logs: Callable[[str], Any], query: str) -> None:
    response = logs(f"?{query}")
    assert errors_of(response, 400) == {"limit": "mixed"}
    assert "use 'tail'" in detail_of(response)


@pytest.mark.parametrize(
    "query",
    ["tail=0", "tail=10001", "tail=x", "stream=stdin", "level=loud", "limit=0", "since=x", "n=1"],
)
def test_bad_log_queries(logs: Callable[[str], Any], query: str) -> None:
    assert set(errors_of(logs(f"?{query}"), 400)) == {query.split("=")[0]}


@pytest.mark.parametrize(
    "query", ["tail=-1", "tail=10001", "stream=stdin", "after=x", "after=1:x", "level=info"]
)
def test_bad_follow_queries(logs: Callable[[str], Any], query: str) -> None:
    assert set(errors_of(logs(f"/stream?{query}"), 400)) == {query.split("=")[0]}


@pytest.mark.parametrize("path", ["logs", "logs/stream"])
def test_a_backend_that_is_away_is_503(
    api_client: APIClient, make_config: Maker, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    make_config(worker_id="w")
    monkeypatch.setattr("lifecycle.logs.reading.backend_for", lambda _config: AwayLog())
    accept = "text/event-stream" if "stream" in path else "*/*"
    response = api_client.get(f"{WORKERS}/w/{path}", headers={"Accept": accept})
    assert errors_of(response, 503) == {None: "backend_unavailable"}
    assert response["Retry-After"]


@pytest.mark.parametrize("path", ["logs", "logs/stream"])
def test_a_deployment_type_that_is_not_there_yet_says_so(
    api_client: APIClient, make_config: Maker, path: str
) -> None:
    make_config(worker_id="w", deployment_type="kubernetes")
    response = api_client.get(f"{WORKERS}/w/{path}")
    assert errors_of(response, 409) == {None: "spawn_refused"}
    assert "kubernetes" in detail_of(response)


def test_who_may_follow(
    api: Maker, viewer: Any, make_user: Maker, make_config: Maker, printed: PrintedLog
) -> None:
    make_config(worker_id="w")
    address = f"{WORKERS}/w/logs/stream"
    assert errors_of(api().get(address), 401)
    assert errors_of(api(make_user("nobody")).get(address), 403)
    assert errors_of(api(viewer).get(f"{WORKERS}/nobody/logs/stream"), 404)
    assert errors_of(api(viewer).post(address), 405)
    answer = api(viewer).get(f"{address}?tail=7", headers={"Accept": "text/event-stream"})
    assert isinstance(answer, EventStream)
    assert answer["Content-Type"] == "text/event-stream"
    assert answer["Cache-Control"] == "no-store, no-transform"
    assert printed.asked == [("w", "stdout", LogStart(tail=7))]


def test_where_a_follower_goes_on(api_client: APIClient, logs: Any, printed: PrintedLog) -> None:
    logs("/stream?after=4:5")
    api_client.get(f"{WORKERS}/w/logs/stream?after=4:5", headers={"Last-Event-ID": "6:7"})
    starts = [start for _, _, start in printed.asked]
    assert [start.after for start in starts] == [Place(4, 5), Place(6, 7)]


@pytest.fixture
def _nobody_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.api.workers.followers", followers.Followers())


@pytest.mark.usefixtures("_nobody_follows")
def test_nobody_follows_without_end(
    api: Maker, viewer: Any, operator: Any, make_config: Maker, printed: PrintedLog
) -> None:
    make_config(worker_id="w")
    address = f"{WORKERS}/w/logs/stream"
    held = [api(viewer).get(address) for _ in range(followers.MOST_OF_ONE)]
    assert {answer.status_code for answer in held} == {200}
    refused = api(viewer).get(address)
    assert errors_of(refused, 429) == {None: "too_many_followers"}
    assert f"{followers.MOST_OF_ONE} logs" in detail_of(refused)
    assert refused["Retry-After"]
    assert api(operator).get(address).status_code == 200
    held.pop()  # a stream that ended, or was never sent: nothing refers to its answer any more
    gc.collect()
    assert api(viewer).get(address).status_code == 200


@pytest.mark.usefixtures("_nobody_follows")
def test_all_users_together_are_limited_too(
    api: Maker, viewer: Any, operator: Any, logs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "MOST", 1)
    held = api(viewer).get(f"{WORKERS}/w/logs/stream")
    refused = api(operator).get(f"{WORKERS}/w/logs/stream")
    assert held.status_code == 200
    assert errors_of(refused, 503) == {None: "too_many_followers"}
    assert refused["Retry-After"]


# --- rotation as it is configured --------------------------------------------------------------


def test_rotation_is_configured(api_client: APIClient) -> None:
    made = api_client.post(CONFIGS, {"worker_id": "w"}, format="json").json()
    assert (made["log_max_mb"], made["log_files"]) == (10, 5)
    changed = api_client.patch(f"{CONFIGS}/w", {"log_max_mb": 1, "log_files": 2}, format="json")
    assert (changed.json()["log_max_mb"], changed.json()["log_files"]) == (1, 2)


@pytest.mark.parametrize(
    "bad", [{"log_max_mb": 0}, {"log_max_mb": 1025}, {"log_files": 1}, {"log_files": 101}]
)
def test_rotation_that_makes_no_sense(api_client: APIClient, bad: dict[str, int]) -> None:
    response = api_client.post(CONFIGS, {"worker_id": "w", **bad}, format="json")
    assert set(errors_of(response, 400)) == set(bad)
