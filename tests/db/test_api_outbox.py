"""Replies, logins, gaps and audits over HTTP, with all that people get wrong [S9, S11, S12]."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from sync import platforms, services
from sync.models import Account, Audit, Comment, Conversation, Gap, LoginSession, Post, Reply
from sync.types import Lease, LoginSessionState, LoginStep
from tests.db.api_helpers import V1, detail_of, errors_of, make_account, make_conversation
from tests.db.errand_stage import OutboxPlatform
from tests.db.sync_stage import NOON

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OutboxPlatform:
    made = OutboxPlatform(tmp_path / "sent.jsonl")
    monkeypatch.setattr(platforms, "registry", lambda: {"matrix": made})
    return made


@pytest.fixture
def account(db: None) -> Account:
    return make_account()


@pytest.fixture
def talk(account: Account) -> Conversation:
    return make_conversation(account)


def write(client: APIClient, talk: Any, text: object, **headers: str) -> Any:
    where = {Conversation: "conversations", Post: "posts", Comment: "comments"}[type(talk)]
    body = {"text": text}
    return client.post(f"{V1}/{where}/{talk.pk}/replies", body, format="json", headers=headers)


# --- replies ----------------------------------------------------------------------------------


def test_a_reply_from_birth_to_end(
    api: Callable[..., APIClient], operator: User, talk: Conversation
) -> None:
    client = api(operator)
    made = write(client, talk, "hello")
    assert made.status_code == 201, made.content
    reply = made.json()
    assert reply["state"] == "pending"
    assert (reply["text"], reply["created_by"], reply["others"]) == ("hello", "operator", [])
    assert made["Location"].endswith(f"/replies/{reply['id']}")
    listed = client.get(f"{V1}/conversations/{talk.pk}/replies").json()["results"]
    assert [one["id"] for one in listed] == [reply["id"]]
    path = f"{V1}/replies/{reply['id']}"
    assert client.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert client.get(path).json()["state"] == "cancelled"
    assert client.get(path).json()["may_have_been_sent"] is False
    Reply.objects.update(attempted_at=timezone.now())
    assert client.get(path).json()["may_have_been_sent"] is True
    assert errors_of(client.post(f"{path}/retry"), 409) == {None: "rejected"}
    Reply.objects.update(state="failed", error="no")
    assert errors_of(client.post(f"{path}/retry", {"send_anyway": True}, format="json"), 409) == {
        None: "rejected"
    }
    assert client.post(f"{path}/retry").json()["state"] == "pending"
    Reply.objects.update(state="failed", needs_decision=True)
    assert client.get(path).json()["needs_decision"] is True
    odd = client.post(f"{path}/retry", {"send_anyway": 7}, format="json")
    assert errors_of(odd, 400) == {"send_anyway": "invalid"}
    sent = client.post(f"{path}/retry", {"send_anyway": True}, format="json").json()
    assert (sent["state"], sent["needs_decision"], sent["attempted_at"]) == ("pending", False, None)
    trail = LogEntry.objects.order_by("pk").values_list("user__username", "change_message")
    assert list(trail) == [
        ("operator", "Taken back over the API."),
        ("operator", "Tried again over the API."),
        ("operator", "Sent again anyway over the API."),
    ]


def test_posts_and_comments_are_answered(api_client: APIClient, account: Account) -> None:
    post = Post.objects.create(account=account, external_id="p", author_id="a", published_at=NOON)
    comment = Comment.objects.create(
        account=account, post=post, external_id="k", author_id="b", published_at=NOON,
        direction="inbound",
    )  # fmt: skip
    below_post = write(api_client, post, "to all").json()
    below_comment = write(api_client, comment, "to you").json()
    assert (below_post["post"], below_post["comment"]) == (post.pk, None)
    assert (below_comment["post"], below_comment["comment"]) == (post.pk, comment.pk)
    found = api_client.get(f"{V1}/posts/{post.pk}/replies").json()["results"]
    assert [one["text"] for one in found] == ["to you", "to all"]
    found = api_client.get(f"{V1}/comments/{comment.pk}/replies").json()["results"]
    assert [one["text"] for one in found] == ["to you"]


def test_a_repeated_request_queues_once(
    api: Callable[..., APIClient], operator: User, administrator: User, talk: Conversation
) -> None:
    client = api(operator)
    key = {"Idempotency-Key": "order-7/confirm"}
    first, again = write(client, talk, "hello", **key), write(client, talk, "hello", **key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = write(client, talk, "something else", **key)
    assert errors_of(other, 409) == {None: "idempotency_key_reused"}
    assert write(api(administrator), talk, "hello", **key).status_code == 201, "one's own keys"
    assert Reply.objects.count() == 2
    for bad in ("", "x" * 201, "käse"):
        found = write(client, talk, "hello", **{"Idempotency-Key": bad})
        assert errors_of(found, 400) == {"Idempotency-Key": "invalid"}, bad


def test_two_operators_at_once_see_both(
    api: Callable[..., APIClient], operator: User, administrator: User, talk: Conversation
) -> None:
    first = write(api(operator), talk, "I do it").json()
    second = write(api(administrator), talk, "No, I").json()
    assert (first["others"], second["others"]) == ([], [first["id"]])
    found = api(operator).get(f"{V1}/conversations/{talk.pk}/replies").json()["results"]
    assert [one["created_by"] for one in found] == ["administrator", "operator"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "null"), ("", "blank"), (" \n", "blank"), ("x" * 1001, "max_length"),
        (["x"], "invalid"), ("a\x00", "null_characters_not_allowed"),
    ],
)  # fmt: skip
def test_bad_texts_name_the_field(
    api_client: APIClient, talk: Conversation, text: object, code: str
) -> None:
    assert errors_of(write(api_client, talk, text), 400) == {"text": code}
    assert not Reply.objects.exists()


def test_bad_requests_for_replies(
    api_client: APIClient, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{V1}/conversations/{talk.pk}/replies"
    assert errors_of(api_client.post(path, {}, format="json"), 400) == {"text": "required"}
    unknown = api_client.post(path, {"text": "x", "to": "y"}, format="json")
    assert errors_of(unknown, 400) == {"to": "unknown"}
    nowhere = api_client.post(f"{V1}/conversations/{2**62}/replies", {"text": "x"}, format="json")
    assert errors_of(nowhere, 404) == {None: "not_found"}
    for verb in ("cancel", "retry"):
        assert errors_of(api_client.post(f"{V1}/replies/99/{verb}"), 404)
    assert errors_of(api_client.get(f"{V1}/replies?state=lost"), 400) == {"state": "invalid_choice"}
    assert errors_of(api_client.get(f"{V1}/replies?colour=red"), 400) == {"colour": "unknown"}
    Account.objects.update(enabled=False)
    assert errors_of(write(api_client, talk, "x"), 409) == {None: "rejected"}
    Account.objects.update(enabled=True)
    monkeypatch.setattr(OutboxPlatform, "replies_to", frozenset())
    refused = write(api_client, talk, "x")
    assert errors_of(refused, 409) == {None: "rejected"}
    assert "takes no replies" in detail_of(refused)


# --- logins -----------------------------------------------------------------------------------


def test_a_login_from_birth_to_end(
    api: Callable[..., APIClient], operator: User, viewer: User, account: Account
) -> None:
    client, path = api(operator), f"{V1}/accounts/{account.pk}/login-sessions"
    made = client.post(path)
    assert made.status_code == 201, made.content
    session = made.json()
    assert (session["state"], session["created_by"]) == ("pending", "operator")
    assert session["waits_for_worker"], "no worker has it, and it says so"
    assert errors_of(client.post(path), 409) == {None: "login_under_way"}
    one = f"{V1}/login-sessions/{session['id']}"
    assert errors_of(client.get(f"{one}/qr"), 404)
    assert errors_of(client.post(f"{one}/answer", {"code": "c"}, format="json"), 409)
    step = LoginStep(
        LoginSessionState.PENDING, "Scan", qr_text="secret-qr", url="https://example.org/secret"
    )
    services.tell_login(Lease(account.pk, account.epoch), session["id"], step, timezone.now())
    image = client.get(f"{one}/qr", headers={"Accept": "image/svg+xml"})
    assert image["Content-Type"] == "image/svg+xml"
    assert b"<svg" in image.content
    assert client.get(one).json()["qr_text"] == "secret-qr"
    assert "secret" not in api(viewer).get(one).content.decode()
    assert errors_of(api(viewer).get(f"{one}/qr"), 403)
    for bad in ({}, {"address": "https://example.org/?error=denied"}, {"address": "no"}):
        assert errors_of(client.post(f"{one}/answer", bad, format="json"), 400)
    given = client.post(f"{one}/answer", {"address": "https://x.org/?code=a1"}, format="json")
    assert given.status_code == 200
    assert LoginSession.objects.get().answer == {"code": "a1"}
    assert "a1" not in given.content.decode()
    assert client.post(f"{one}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{one}/cancel").status_code == 200
    assert errors_of(client.post(f"{one}/answer", {"code": "c"}, format="json"), 409)
    assert [row["id"] for row in client.get(path).json()["results"]] == [session["id"]]
    assert client.get(f"{V1}/login-sessions?state=cancelled").json()["results"]


def test_a_disabled_account_takes_no_login(api_client: APIClient, account: Account) -> None:
    Account.objects.update(enabled=False)
    path = f"{V1}/accounts/{account.pk}/login-sessions"
    assert errors_of(api_client.post(path), 409) == {None: "rejected"}
    assert errors_of(api_client.post(path, {"qr": 1}, format="json"), 400) == {"qr": "unknown"}


# --- gaps and audits --------------------------------------------------------------------------


def test_gaps_and_audits_of_an_account(api_client: APIClient, account: Account) -> None:
    Gap.objects.create(account=account, key="a", newer_end="t9", older_end="t1", reason="limited")
    Gap.objects.create(account=account, key="b", closed_at=timezone.now())
    path = f"{V1}/accounts/{account.pk}"
    found = api_client.get(f"{path}/gaps?open=true").json()["results"]
    assert [(one["newer_end"], one["older_end"], one["reason"]) for one in found] == [
        ("t9", "t1", "limited")
    ]
    assert len(api_client.get(f"{path}/gaps").json()["results"]) == 2
    asked = api_client.post(f"{path}/audits", {"full": True}, format="json")
    assert asked.status_code == 202, asked.content
    assert asked.json()["outcome"] == "running"
    assert errors_of(api_client.post(f"{path}/audits"), 409) == {None: "rejected"}
    assert len(api_client.get(f"{path}/audits?outcome=running").json()["results"]) == 1
    assert "complete_until" in api_client.get(path).json()
    Audit.objects.update(outcome="complete")
    for bad in ({"full": "maybe"}, {"since": "2026"}):
        assert errors_of(api_client.post(f"{path}/audits", bad, format="json"), 400), bad


def test_a_platform_without_lists_says_so(
    api_client: APIClient, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutboxPlatform, "lists_ids", False)
    refused = api_client.post(f"{V1}/accounts/{account.pk}/audits")
    assert errors_of(refused, 409) == {None: "rejected"}
    assert "can't list" in detail_of(refused)


def test_the_audit_interval_has_bounds(api_client: APIClient, account: Account) -> None:
    account.credentials = {"user": "sales", "password": "hunter2"}
    account.save()
    path = f"{V1}/accounts/{account.pk}"
    good = api_client.patch(path, {"audit_interval_s": 3600}, format="json")
    assert good.json()["audit_interval_s"] == 3600
    for bad in (1, 10**9, "soon"):
        found = errors_of(api_client.patch(path, {"audit_interval_s": bad}, format="json"), 400)
        assert set(found) == {"audit_interval_s"}
    account.refresh_from_db()
    assert account.audit_due_at is None, "not before the first full read"
