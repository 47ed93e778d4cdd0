"""Who may do what: viewer, operator, admin [C3]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.urls import get_resolver
from rest_framework.test import APIClient

from crm.roles import ROLES, grant_roles
from lifecycle import services
from sync.models import Account, Gap, Reply
from sync.platforms.matrix.adapter import Matrix
from sync.types import RecordKind
from tests.db.api_helpers import (
    CREDENTIALS,
    V1,
    errors_of,
    make_account,
    make_conversation,
    make_letter,
    make_message,
)

CONFIG = {"worker_id": "worker-7"}
ACCOUNT = {
    "platform": "matrix",
    "identifier": "@new:example.org",
    "endpoint": "https://matrix.example.org",
    "credentials": CREDENTIALS,
}
READ, OPERATE, CONFIGURE = "viewer", "operator", "admin"
RANK = [READ, OPERATE, CONFIGURE]

# Every operation and the least role that may do it.
OPERATIONS: list[tuple[str, str, Any, str]] = [
    ("get", "worker-configs", None, READ),
    ("get", "worker-configs/worker-1", None, READ),
    ("get", "worker-configs/worker-1/versions", None, READ),
    ("get", "worker-configs/stats/summary", None, READ),
    ("get", "workers", None, READ),
    ("get", "workers/worker-1/status", None, READ),
    ("get", "workers/worker-1/health", None, READ),
    ("get", "workers/worker-1/logs?level=info", None, READ),
    ("get", "workers/stats/overview", None, READ),
    ("get", "workers/rollouts", None, READ),
    ("get", "workers/rollouts/{rollout}", None, READ),
    ("get", "accounts", None, READ),
    ("get", "accounts/{account}", None, READ),
    ("get", "conversations", None, READ),
    ("get", "conversations/{conversation}", None, READ),
    ("get", "conversations/{conversation}/messages", None, READ),
    ("get", "messages", None, READ),
    ("get", "messages/{message}", None, READ),
    ("get", "posts", None, READ),
    ("get", "comments", None, READ),
    ("get", "sync-runs", None, READ),
    ("get", "dead-letters", None, READ),
    ("get", "dead-letters/{letter}", None, READ),
    ("get", "replies", None, READ),
    ("get", "replies/{reply}", None, READ),
    ("get", "conversations/{conversation}/replies", None, READ),
    ("get", "login-sessions", None, READ),
    ("get", "accounts/{account}/login-sessions", None, READ),
    ("get", "accounts/{account}/gaps", None, READ),
    ("get", "accounts/{account}/audits", None, READ),
    ("get", "hook-deliveries", None, READ),
    ("get", "accounts/{hooked}/hook", None, READ),
    ("get", "platforms", None, READ),
    ("get", "inbox/summary", None, READ),
    ("post", "workers/worker-1/stop", {}, OPERATE),
    ("post", "workers/worker-1/restart", {}, OPERATE),
    ("post", "workers/batch", {"action": "stop", "worker_ids": ["worker-1"]}, OPERATE),
    ("post", "workers/rollouts", {"worker_ids": ["worker-1"]}, OPERATE),
    ("post", "workers/rollouts/{rollout}/abort", {}, OPERATE),
    ("post", "accounts/{account}/check", {}, OPERATE),
    ("post", "accounts/{account}/read", {}, OPERATE),
    ("post", "conversations/{conversation}/read", {}, OPERATE),
    ("post", "conversations/{conversation}/replies", {"text": "hello"}, OPERATE),
    ("post", "replies/{reply}/cancel", {}, OPERATE),
    ("post", "accounts/{account}/login-sessions", {}, OPERATE),
    ("post", "accounts/{account}/audits", {}, OPERATE),
    ("post", "accounts/{account}/gaps/{gap}/accept", {}, OPERATE),
    ("post", "accounts/{account}/gaps/{gap}/reopen", {}, OPERATE),
    ("post", "dead-letters/{letter}/discard", {}, OPERATE),
    ("post", "dead-letters/{letter}/reopen", {}, OPERATE),
    ("post", "dead-letters/batch", {"action": "discard", "ids": [1]}, OPERATE),
    ("post", "worker-configs", CONFIG, CONFIGURE),
    ("patch", "worker-configs/worker-1", {"name": "x"}, CONFIGURE),
    ("post", "worker-configs/worker-1/versions", {"version": 1}, CONFIGURE),
    ("delete", "worker-configs/worker-1", None, CONFIGURE),
    ("post", "accounts", ACCOUNT, CONFIGURE),
    ("patch", "accounts/{account}", {"name": "x"}, CONFIGURE),
    ("delete", "accounts/{account}", None, CONFIGURE),
]


@pytest.fixture
def ids(make_config: Callable[..., Any]) -> dict[str, int]:
    make_config(worker_id="worker-1")
    account = make_account()
    conversation = make_conversation(account)
    message = make_message(conversation)
    hooked = Account.objects.create(platform="telegram", identifier="@bot", credentials={})
    rollout = services.begin_rollout(["worker-1"], "test")
    services.abort_rollout(rollout.pk, "test")
    return {
        "account": account.pk,
        "conversation": conversation.pk,
        "message": message.pk,
        "rollout": rollout.pk,
        "letter": make_letter(account).pk,
        "reply": Reply.objects.create(account=account, conversation=conversation, text="x").pk,
        "hooked": hooked.pk,
        "gap": Gap.objects.create(account=account, key="g").pk,
    }


@pytest.mark.parametrize("role", RANK)
def test_matrix(
    api: Callable[..., APIClient],
    make_user: Callable[..., Any],
    ids: dict[str, int],
    role: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Matrix, "replies_to", frozenset({RecordKind.CONVERSATION}))
    monkeypatch.setattr(Matrix, "lists_ids", True)
    client = api(make_user("somebody", role))
    for method, path, body, least in OPERATIONS:
        with transaction.atomic():  # each operation finds the world as it was
            response = getattr(client, method)(f"{V1}/{path.format(**ids)}", body, format="json")
            transaction.set_rollback(True)
        if RANK.index(role) < RANK.index(least):
            assert errors_of(response, 403) == {None: "permission_denied"}, (method, path)
        else:
            assert response.status_code in (200, 201, 202, 204), (method, path, response.content)


def test_a_user_without_a_role_may_do_nothing(
    api: Callable[..., APIClient], make_user: Callable[..., Any], ids: dict[str, int]
) -> None:
    client = api(make_user("nobody"))
    for method, path, body, _least in OPERATIONS:
        response = getattr(client, method)(f"{V1}/{path.format(**ids)}", body, format="json")
        assert errors_of(response, 403), path


def test_a_viewer_who_posts_nonsense_hears_of_the_role_first(
    api: Callable[..., APIClient], viewer: Any
) -> None:
    client = api(viewer)
    for kind, body in (("application/json", "{"), ("text/plain", "x")):
        response = client.generic("POST", f"{V1}/worker-configs", body, content_type=kind)
        assert errors_of(response, 403)


def test_every_view_declares_its_permissions() -> None:
    """Each method that a view answers is declared, or nobody could ever use it."""
    for pattern in (
        get_resolver("lifecycle.api.urls").url_patterns + get_resolver("sync.api.urls").url_patterns
    ):
        view: Any = pattern.callback
        made = view.cls(**view.initkwargs)
        for method in view.actions:
            if method.upper() != "HEAD":
                assert method.upper() in made.permissions, pattern


def test_a_session_may_read_and_needs_a_csrf_token_to_write(
    administrator: Any, ids: dict[str, int]
) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.login(username="administrator", password="administrator")
    assert client.get(f"{V1}/workers").status_code == 200
    response = client.post(f"{V1}/workers/worker-1/stop")
    assert errors_of(response, 403) == {None: "permission_denied"}


@pytest.mark.django_db
def test_roles_build_on_each_other() -> None:
    granted = {
        name: set(Group.objects.get(name=name).permissions.values_list("codename", flat=True))
        for name in ROLES
    }
    assert granted["viewer"] < granted["operator"] < granted["admin"]
    assert granted["operator"] - granted["viewer"] == {
        "operate_worker",
        "operate_account",
        "resolve_deadletter",
    }
    assert all(name.startswith("view_") for name in granted["viewer"])
    assert {"add_workerconfig", "delete_account"} <= granted["admin"]
    assert not granted["admin"] & {"change_workerruntime", "add_message", "delete_workerlog"}


@pytest.mark.django_db
def test_granting_again_keeps_what_was_added_by_hand() -> None:
    viewers = Group.objects.get(name="viewer")
    extra = Permission.objects.get(codename="operate_account")
    viewers.permissions.add(extra)
    before = viewers.permissions.count()
    grant_roles(apps.get_app_config("sync"))
    grant_roles(apps.get_app_config("auth"))
    assert viewers.permissions.count() == before
