"""The OpenAPI schema, the pages that show it, and the health checks [C3, O4]."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from django.core.management import call_command
from rest_framework.test import APIClient

from crm import health
from tests.db.api_helpers import errors_of

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Made without a warning, and valid OpenAPI."""
    path: Path = tmp_path_factory.mktemp("schema") / "schema.yaml"
    call_command("spectacular", "--fail-on-warn", "--validate", "--file", str(path))
    return yaml.safe_load(path.read_text())


def test_every_address_of_the_requirements_is_in_it(schema: Any) -> None:
    v1 = "/api/v1"
    expected = {
        f"{v1}/worker-configs": {"get", "post"},
        f"{v1}/worker-configs/{{worker_id}}": {"get", "patch", "delete"},
        f"{v1}/worker-configs/stats/summary": {"get"},
        f"{v1}/workers/{{worker_id}}/start": {"post"},
        f"{v1}/workers/{{worker_id}}/stop": {"post"},
        f"{v1}/workers/{{worker_id}}/restart": {"post"},
        f"{v1}/workers/{{worker_id}}/status": {"get"},
        f"{v1}/workers/{{worker_id}}/logs": {"get"},
        f"{v1}/workers/{{worker_id}}/health": {"get"},
        f"{v1}/workers/{{worker_id}}/metrics": {"get"},
        f"{v1}/workers/batch": {"post"},
        f"{v1}/workers/stats/overview": {"get"},
        f"{v1}/workers/rollouts": {"get", "post"},
        f"{v1}/workers/rollouts/{{id}}": {"get"},
        f"{v1}/workers/rollouts/{{id}}/abort": {"post"},
        f"{v1}/accounts": {"get", "post"},
        f"{v1}/conversations/{{id}}/read": {"post"},
    }
    for path, methods in expected.items():
        assert set(schema["paths"][path]) == methods, path
    assert not any(path.endswith("/") for path in schema["paths"])


def test_every_operation_documents_its_errors(schema: Any) -> None:
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            documented = set(operation["responses"])
            assert {"401", "403", "429", "503"} <= documented, (path, method)
            if method in ("post", "patch"):
                assert {"400", "409", "413", "415"} <= documented, (path, method)
            if "{" in path:
                assert "404" in documented, (path, method)


def test_lists_document_their_pages_and_filters(schema: Any) -> None:
    workers = schema["paths"]["/api/v1/workers"]["get"]
    names = {one["name"] for one in workers["parameters"]}
    assert names >= {"cursor", "page_size", "ordering", "state", "deployment_type", "search"}
    page = workers["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    properties = schema["components"]["schemas"][page.split("/")[-1]]["properties"]
    assert set(properties) == {"next", "previous", "results"}
    versions = schema["paths"]["/api/v1/worker-configs/{worker_id}/versions"]["get"]
    assert "enabled" not in {one["name"] for one in versions["parameters"]}


def test_credentials_are_documented_as_going_in_only(schema: Any) -> None:
    schemas = schema["components"]["schemas"]
    assert schemas["Account"]["properties"]["credentials"]["writeOnly"] is True


def test_examples_and_token_login_are_documented(schema: Any) -> None:
    create = schema["paths"]["/api/v1/worker-configs"]["post"]
    examples = create["requestBody"]["content"]["application/json"]["examples"]
    assert next(iter(examples.values()))["value"]["name"] == "主 Worker"
    schemes = schema["components"]["securitySchemes"]
    assert any(one.get("name") == "Authorization" for one in schemes.values())


def test_the_pages_for_people(client: Any, admin_user: Any) -> None:
    client.force_login(admin_user)
    for path in ("/api/docs", "/api/redoc"):
        response = client.get(path)
        assert response.status_code == 200
        assert b"/api/schema" in response.content
        assert b"https://cdn" not in response.content
    assert client.get("/api/schema").status_code == 200


def test_every_role_reads_the_schema(api: Callable[..., APIClient], viewer: Any) -> None:
    assert api(viewer).get("/api/schema").status_code == 200


def test_the_first_page_leads_to_the_admin(client: Any) -> None:
    response = client.get("/")
    assert (response.status_code, response["Location"]) == (302, "/admin/")


# --- health ----------------------------------------------------------------------------------


def test_healthz_needs_nothing(client: Any, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert "no-cache" in response["Cache-Control"]
    assert client.post("/healthz").status_code == 405


def test_readyz_names_its_checks(api: Callable[..., APIClient], viewer: Any) -> None:
    response = api(viewer).get("/readyz")
    assert response.json() == {"ready": True, "checks": {"database": "ok", "broker": "ok"}}
    assert response.status_code == 200


def test_readyz_when_the_broker_is_away(
    api: Callable[..., APIClient], viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(health.Readyz.checks, "broker", lambda: "away: refused")
    response = api(viewer).get("/readyz")
    assert response.status_code == 503
    assert response.json() == {
        "ready": False,
        "checks": {"database": "ok", "broker": "away: refused"},
    }


def test_a_broker_that_refuses_is_named_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from celery import Celery

    monkeypatch.setattr(health, "app", Celery(broker="redis://127.0.0.1:1/0", set_as_current=False))
    assert health.broker().startswith("away: ")


def test_a_database_that_is_away_is_named(
    api: Callable[..., APIClient], viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**limits: Any) -> None:
        assert limits["connect_timeout"] == health.LIMIT_S
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(psycopg, "connect", refuse)
    assert health.database() == "away: connection refused"
    response = api(viewer).get("/readyz")
    assert errors_of(response, 503) == {None: "database_unavailable"}
    assert response["Retry-After"]
    assert errors_of(api().get("/readyz"), 401)
