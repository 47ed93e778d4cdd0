"""Bad input over the API: each has its status, and all have the one shape [C3]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.db.models import ProtectedError
from rest_framework.test import APIClient

from lifecycle.errors import BackendUnavailable, ImpossibleTransition, LostRace, SpawnRefused
from lifecycle.models import WorkerConfig
from sync.errors import StaleEpoch
from tests.db.api_helpers import V1, detail_of, errors_of

CONFIGS, WORKERS = f"{V1}/worker-configs", f"{V1}/workers"

Maker = Callable[..., Any]


def test_unknown_worker_is_404_everywhere(api_client: APIClient) -> None:
    for method, path in (
        ("get", f"{CONFIGS}/worker-9"),
        ("patch", f"{CONFIGS}/worker-9"),
        ("delete", f"{CONFIGS}/worker-9"),
        ("get", f"{CONFIGS}/worker-9/versions"),
        ("get", f"{WORKERS}/worker-9/status"),
        ("get", f"{WORKERS}/worker-9/health"),
        ("get", f"{WORKERS}/worker-9/logs"),
        ("get", f"{WORKERS}/worker-9/logs?level=info"),
        ("post", f"{WORKERS}/worker-9/start"),
        ("post", f"{WORKERS}/worker-9/stop"),
        ("post", f"{WORKERS}/worker-9/restart"),
    ):
        response = getattr(api_client, method)(path)
        assert errors_of(response, 404) == {None: "unknown_worker"}, path
        assert "worker-9" in detail_of(response)


def test_start_of_a_disabled_config_says_why(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="off", enabled=False)
    for verb in ("start", "restart"):
        response = api_client.post(f"{WORKERS}/off/{verb}")
        assert errors_of(response, 409) == {None: "rejected"}
        assert "disabled" in detail_of(response)


def test_duplicate_worker_id_names_the_field(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="twin")
    response = api_client.post(CONFIGS, {"worker_id": "twin"}, format="json")
    assert errors_of(response, 400) == {"worker_id": "unique"}


def test_two_posts_that_race_for_one_id(
    api_client: APIClient, make_config: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second passed every check before the first one committed."""
    make_config(worker_id="twin")
    monkeypatch.setattr(WorkerConfig, "full_clean", lambda _self: None)
    monkeypatch.setattr("rest_framework.validators.qs_exists", lambda _rows: False)
    response = api_client.post(CONFIGS, {"worker_id": "twin"}, format="json")
    assert errors_of(response, 409) == {None: "unique"}


def test_each_bad_field_of_a_config_is_named(api_client: APIClient) -> None:
    bad = {
        "worker_id": "Worker 1",
        "deployment_type": "mainframe",
        "port": 0,
        "max_accounts": -1,
        "max_memory_mb": -5,
        "cpu_cores": "nan",
        "concurrency": 0,
        "restart_delay_ms": -1,
        "max_restart_attempts": -1,
        "pool": "gevent",
        "queues": ["not a queue!"],
        "env_variables": {"1X": "a", "OK": 5},
        "auto_start": "perhaps",
        "favourite_colour": "red",
        "created_at": "2026-01-01T00:00:00Z",
    }
    found = errors_of(api_client.post(CONFIGS, bad, format="json"), 400)
    assert {(name or "").split(".")[0] for name in found} == set(bad)
    assert found["favourite_colour"] == "unknown"
    assert found["created_at"] == "read_only"
    assert found["deployment_type"] == "invalid_choice"
    assert not WorkerConfig.objects.exists()


@pytest.mark.parametrize(
    "value",
    [
        ["A=b"],
        "A=b",
        {"A": None},
        {"A": "\0"},
        {"A-B": "c"},
        {"": "c"},
        {"A": "x" * 65_536},
    ],
)
def test_environment_is_an_object_of_strings(api_client: APIClient, value: Any) -> None:
    body = {"worker_id": "worker-1", "env_variables": value}
    assert "env_variables" in errors_of(api_client.post(CONFIGS, body, format="json"), 400)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        '{"worker_id": "w",}',
        '{"cpu_cores": NaN}',
        '{"env_variables": {"\\ud800": "half a pair"}}',
        "",
        b"\xff\xfe",
        "[" * 100_000,
        '"text"',
        "[]",
        "null",
        "7",
    ],
)
def test_malformed_json_is_400(api_client: APIClient, body: Any) -> None:
    response = api_client.generic("POST", CONFIGS, body, content_type="application/json")
    errors_of(response, 400)


def test_wrong_content_type_is_415(api_client: APIClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        response = api_client.generic("POST", CONFIGS, "worker_id=w", content_type=kind)
        assert errors_of(response, 415) == {None: "unsupported_media_type"}


def test_a_body_over_the_limit_is_413(api_client: APIClient, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    body = {"worker_id": "w", "description": "x" * 1000}
    assert errors_of(api_client.post(CONFIGS, body, format="json"), 413) == {None: "too_large"}


def test_wrong_method_is_405(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="worker-1")
    for method, path in (
        ("put", f"{CONFIGS}/worker-1"),
        ("delete", CONFIGS),
        ("get", f"{WORKERS}/worker-1/start"),
        ("post", f"{WORKERS}/worker-1/status"),
        ("delete", f"{V1}/messages"),
        ("post", f"{V1}/dead-letters"),
    ):
        response = getattr(api_client, method)(path, {}, format="json")
        assert errors_of(response, 405) == {None: "method_not_allowed"}, path
        assert response["Allow"]


def test_nothing_answers_without_a_login(api: Maker, make_config: Maker) -> None:
    make_config(worker_id="worker-1")
    anonymous = api()
    for path in (
        CONFIGS,
        f"{WORKERS}/worker-1/status",
        f"{V1}/accounts",
        f"{V1}/nowhere",
        "/readyz",
    ):
        response = anonymous.get(path)
        assert errors_of(response, 401) == {None: "not_authenticated"}, path
        assert response["WWW-Authenticate"] == "Token"
    assert errors_of(anonymous.post(f"{WORKERS}/worker-1/start"), 401)
    assert anonymous.get("/api/schema").status_code == 401
    for path in ("/api/docs", "/api/redoc", "/admin/", "/jsi18n"):
        response = anonymous.get(path)
        assert response.status_code == 302, path
        assert response["Location"].startswith("/admin/login/")


def test_a_wrong_token_is_401(api: Maker) -> None:
    client = api()
    for header in ("Token wrong", "Token", "Token a b"):
        client.credentials(HTTP_AUTHORIZATION=header)
        response = client.get(CONFIGS)
        assert errors_of(response, 401) == {None: "authentication_failed"}
        assert response["WWW-Authenticate"] == "Token"


def test_the_token_of_a_user_who_left_is_401(api: Maker, viewer: Any) -> None:
    client = api(viewer)
    viewer.is_active = False
    viewer.save()
    assert errors_of(client.get(CONFIGS), 401)


def test_unknown_addresses_are_404_in_the_same_shape(api_client: APIClient) -> None:
    for path in ("/api", "/api/", f"{V1}/nowhere", f"{CONFIGS}/", f"{V1}/accounts/one"):
        assert errors_of(api_client.get(path), 404) == {None: "not_found"}, path


def test_addresses_have_no_trailing_slash_and_redirect_nowhere(api_client: APIClient) -> None:
    assert api_client.get(CONFIGS).status_code == 200
    assert api_client.post(f"{CONFIGS}/", {}, format="json").status_code == 404


def test_unknown_parameters_of_lists_are_named(api_client: APIClient) -> None:
    lists = "worker-configs workers accounts conversations messages posts comments sync-runs"
    for name in [*lists.split(), "dead-letters"]:
        response = api_client.get(f"{V1}/{name}?colour=red&cursor=&offset=3")
        found = errors_of(response, 400)
        assert found == {"colour": "unknown", "offset": "unknown"}, name


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("workers?state=asleep", "state"),
        ("workers?deployment_type=mainframe", "deployment_type"),
        ("workers?ordering=colour", "ordering"),
        ("workers?page_size=0", "page_size"),
        ("workers?page_size=501", "page_size"),
        ("workers?page_size=many", "page_size"),
        ("workers?cursor=made-up", "cursor"),
        ("worker-configs?enabled=perhaps", "enabled"),
        ("worker-configs?search=%00", "search"),
        ("conversations?account=one", "account"),
        ("conversations?unread=banana", "unread"),
        ("messages?since=yesterday", "since"),
        ("messages?direction=sideways", "direction"),
        ("sync-runs?outcome=lost", "outcome"),
    ],
)
def test_bad_values_of_filters_are_named(api_client: APIClient, query: str, name: str) -> None:
    assert name in errors_of(api_client.get(f"{V1}/{query}"), 400)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"graceful": "perhaps"}, {"graceful"}),
        ({"timeout": -1}, {"timeout"}),
        ({"timeout": "soon"}, {"timeout"}),
        ({"timeout": 3_600_001}, {"timeout"}),
        ({"timeout": None, "force": True}, {"timeout", "force"}),
    ],
)
def test_bad_stops(
    api_client: APIClient, make_config: Maker, body: dict[str, Any], names: set[str]
) -> None:
    make_config(worker_id="worker-1")
    for verb in ("stop", "restart"):
        response = api_client.post(f"{WORKERS}/worker-1/{verb}", body, format="json")
        assert set(errors_of(response, 400)) == names


def test_start_takes_no_fields(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="worker-1")
    response = api_client.post(f"{WORKERS}/worker-1/start", {"graceful": True}, format="json")
    assert errors_of(response, 400) == {"graceful": "unknown"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LostRace("look again"), 409, "try_again"),
        (ImpossibleTransition("error", "stop"), 409, "impossible_transition"),
        (SpawnRefused("deployment type ssh is not available"), 409, "spawn_refused"),
        (BackendUnavailable("the agent is away"), 503, "backend_unavailable"),
        (StaleEpoch(1, 2, 3), 409, "try_again"),
        (ProtectedError("in use", set()), 409, "in_use"),
        (OperationalError("gone"), 503, "database_unavailable"),
        (InterfaceError("gone"), 503, "database_unavailable"),
        (RuntimeError("a bug with a secret in it"), 500, "error"),
    ],
)
def test_errors_of_the_domain(
    api_client: APIClient,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    code: str,
) -> None:
    def fail(_worker_id: str) -> None:
        raise error

    monkeypatch.setattr("lifecycle.queries.runtime", fail)
    api_client.raise_request_exception = False
    response = api_client.get(f"{WORKERS}/worker-1/status")
    assert errors_of(response, status) == {None: code}
    assert "secret" not in detail_of(response)
    assert ("Retry-After" in response) == (status == 503)


def test_too_many_requests(api_client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.core.cache import cache
    from rest_framework.throttling import UserRateThrottle

    cache.clear()
    monkeypatch.setattr(UserRateThrottle, "THROTTLE_RATES", {"user": "2/min"})
    answers = [api_client.get(CONFIGS) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert errors_of(answers[-1], 429) == {None: "throttled"}
    assert int(answers[-1]["Retry-After"]) > 0
    cache.clear()
