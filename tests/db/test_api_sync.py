"""Accounts, conversations, messages, posts, comments, receipts and dead letters over the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from sync.models import Account
from tests.db.api_helpers import (
    CREDENTIALS,
    NOON,
    V1,
    errors_of,
    fill,
    make_account,
    make_conversation,
    make_message,
)

pytestmark = pytest.mark.django_db

NEW: dict[str, Any] = {
    "name": "Sales",
    "platform": "matrix",
    "identifier": "@sales:example.org",
    "endpoint": "https://matrix.example.org",
    "credentials": CREDENTIALS,
    "interval_s": 60,
}


def post(client: APIClient, path: str, **body: Any) -> Any:
    return client.post(f"{V1}/{path}", body, format="json")


# --- accounts --------------------------------------------------------------------------------


def test_an_account_from_birth_to_end(api_client: APIClient) -> None:
    created = post(api_client, "accounts", **NEW)
    assert created.status_code == 201, created.content
    account = created.json()
    assert created["Location"].endswith(f"{V1}/accounts/{account['id']}")
    assert account.items() >= {k: v for k, v in NEW.items() if k != "credentials"}.items()
    assert (account["login_state"], account["worker_id"]) == ("none", None)
    path = f"{V1}/accounts/{account['id']}"
    changed = api_client.patch(path, {"name": "Shop", "enabled": False}, format="json")
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["enabled"]) == ("Shop", False)
    assert Account.objects.get().credentials == CREDENTIALS
    assert api_client.get(path).json() == changed.json()
    assert api_client.delete(path).status_code == 204
    assert errors_of(api_client.get(path), 404) == {None: "not_found"}


def test_an_account_whose_platform_is_gone_can_be_switched_off(api_client: APIClient) -> None:
    account = make_account()
    Account.objects.update(platform="gone")
    path = f"{V1}/accounts/{account.pk}"
    assert api_client.patch(path, {"enabled": False}, format="json").json()["enabled"] is False
    refused = api_client.patch(path, {"enabled": True}, format="json")
    assert errors_of(refused, 400) == {"platform": "invalid"}


def test_credentials_never_come_out(api_client: APIClient) -> None:
    created = post(api_client, "accounts", **NEW)
    path = f"{V1}/accounts/{created.json()['id']}"
    Account.objects.update(session={"access_token": "hunter2-token"}, cursor="hunter2-cursor")
    wrong = {"username": "hunter2", "password": ["hunter2"], "hunter2": 1}
    answers = [
        created,
        api_client.get(path),
        api_client.get(f"{V1}/accounts"),
        api_client.patch(path, {"credentials": CREDENTIALS}, format="json"),
        api_client.patch(path, {"credentials": wrong}, format="json"),
        api_client.options(path),
    ]
    for response in answers:
        text = response.content.decode().replace('"credentials.hunter2"', "")
        assert "hunter2" not in text, text
        assert '"session"' not in text
        assert '"cursor"' not in text


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"platform": "pigeon"}, "platform"),
        ({"platform": None}, "platform"),
        ({"identifier": ""}, "identifier"),
        ({"endpoint": "ftp://x"}, "endpoint"),
        ({"interval_s": 1}, "interval_s"),
        ({"interval_s": 100_000}, "interval_s"),
        ({"credentials": None}, "credentials"),
        ({"credentials": "secret"}, "credentials"),
        ({"credentials": {"username": "sales", "password": 5}}, "credentials.password"),
        ({"epoch": 7}, "epoch"),
        ({"session": {}}, "session"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_accounts_name_the_field(
    api_client: APIClient, change: dict[str, Any], name: str
) -> None:
    found = errors_of(post(api_client, "accounts", **{**NEW, **change}), 400)
    assert name in found
    assert not Account.objects.exists()


def test_an_account_is_there_once(api_client: APIClient) -> None:
    assert post(api_client, "accounts", **NEW).status_code == 201
    again = post(api_client, "accounts", **{**NEW, "endpoint": NEW["endpoint"] + "/"})
    assert errors_of(again, 400) == {"non_field_errors": "unique_together"}
    assert Account.objects.count() == 1


def test_a_missing_field_is_named(api_client: APIClient) -> None:
    found = errors_of(post(api_client, "accounts"), 400)
    assert found == dict.fromkeys(["platform", "identifier", "credentials"], "required")


def test_filters_of_accounts(api_client: APIClient, make_config: Callable[..., Any]) -> None:
    worker = make_config(worker_id="worker-1")
    make_account(1, name="Alpha", worker=worker, unread_total=3)
    make_account(2, name="Beta", enabled=False)
    make_account(3, name="Gamma", error_count=2, login_state="failed")

    def names(query: str) -> list[str]:
        return [row["name"] for row in api_client.get(f"{V1}/accounts?{query}").json()["results"]]

    assert names("") == ["Alpha", "Beta", "Gamma"]
    assert names("enabled=false") == ["Beta"]
    assert names("failing=true") == ["Gamma"]
    assert names("login_state=failed") == ["Gamma"]
    assert names("worker_id=worker-1") == ["Alpha"]
    assert names("search=sales-2") == ["Beta"]
    assert names("platform=matrix&search=amm") == ["Gamma"]
    assert names("platform=pigeon") == []
    assert names("ordering=-unread_total")[0] == "Alpha"


def test_check_now(api_client: APIClient) -> None:
    account = make_account(1)
    Account.objects.update(next_due_at="2100-01-01T00:00:00Z")
    response = post(api_client, f"accounts/{account.pk}/check")
    assert response.status_code == 202
    assert response.json() == {"success": True, "id": account.pk}
    account.refresh_from_db()
    assert account.next_due_at.year < 2100
    assert errors_of(post(api_client, "accounts/99999/check"), 404)


# --- inbox -----------------------------------------------------------------------------------


def test_conversations_come_latest_first_and_silent_ones_last(api_client: APIClient) -> None:
    account = make_account()
    make_conversation(account, 1, last_message_at=NOON)
    make_conversation(account, 2, last_message_at=NOON.replace(hour=13))
    make_conversation(account, 3)
    rows = api_client.get(f"{V1}/conversations").json()["results"]
    assert [row["title"] for row in rows] == ["Room 2", "Room 1", "Room 3"]
    assert rows[0]["platform"] == "matrix"
    assert rows[0]["account_name"] == str(account)


def test_filters_of_conversations(api_client: APIClient) -> None:
    one, two = make_account(1), make_account(2)
    make_conversation(one, 1, unread_count=2, last_message_text="你好")
    make_conversation(two, 2, is_group=True, last_sender_name="Zoë")

    def titles(query: str) -> list[str]:
        found = api_client.get(f"{V1}/conversations?{query}").json()["results"]
        return [row["title"] for row in found]

    assert titles(f"account={one.pk}") == ["Room 1"]
    assert titles("unread=true") == ["Room 1"]
    assert titles("unread=false") == ["Room 2"]
    assert titles(f"account={one.pk}&search=你好") == ["Room 1"]
    assert titles(f"account={two.pk}&search=zoë") == ["Room 2"]
    assert titles(f"account={one.pk}&search=zoë") == []
    assert titles("is_group=true") == ["Room 2"]
    assert titles("platform=pigeon") == []
    assert titles("account=9223372036854775807") == []


def test_messages_of_a_conversation(api_client: APIClient) -> None:
    conversation = make_conversation(make_account())
    other = make_conversation(conversation.account, 2)
    attachment = {"url": "mxc://x", "name": "a.png", "media_type": "image/png", "size": None}
    make_message(conversation, 1, text="hello", attachments=[attachment])
    make_message(conversation, 2, direction="outbound", sender_name="Ann")
    make_message(conversation, 3)
    make_message(other, 4)
    path = f"{V1}/conversations/{conversation.pk}/messages"

    def numbers(query: str) -> list[int]:
        found = api_client.get(f"{path}?{query}").json()["results"]
        return [int(row["external_id"].split("-")[1]) for row in found]

    assert numbers("") == [3, 2, 1]
    assert numbers("ordering=-newest") == [1, 2, 3]
    assert numbers("direction=outbound") == [2]
    assert numbers("search=HELLO") == [1]
    assert numbers("search=ann") == [2]
    assert numbers("since=2026-01-01T12:00:02Z") == [3, 2]
    assert numbers("until=2026-01-01T12:00:02Z") == [1]
    assert api_client.get(f"{path}?search=hello").json()["results"][0]["attachments"] == [
        attachment
    ]
    assert errors_of(api_client.get(f"{V1}/conversations/99999/messages"), 404)
    assert errors_of(api_client.get(f"{path}?account=1"), 400) == {"account": "unknown"}


def test_mark_read_up_to_a_message_then_all(api_client: APIClient) -> None:
    conversation = make_conversation(make_account())
    messages = [make_message(conversation, number) for number in range(1, 6)]
    path = f"conversations/{conversation.pk}/read"
    assert post(api_client, path, up_to=messages[1].pk).json() == {"read": 2, "unread": 3}
    assert post(api_client, path, up_to=messages[1].pk).json() == {"read": 0, "unread": 3}
    assert api_client.post(f"{V1}/{path}").json() == {"read": 3, "unread": 0}
    shown = api_client.get(f"{V1}/conversations/{conversation.pk}").json()
    assert shown["unread_count"] == 0


def test_bad_mark_read(api_client: APIClient) -> None:
    conversation = make_conversation(make_account())
    stranger = make_message(make_conversation(conversation.account, 2))
    path = f"conversations/{conversation.pk}/read"
    assert errors_of(post(api_client, path, up_to=stranger.pk), 400) == {"up_to": "unknown_message"}
    assert errors_of(post(api_client, path, up_to="last"), 400) == {"up_to": "invalid"}
    assert errors_of(post(api_client, path, upto=1), 400) == {"upto": "unknown"}
    assert errors_of(post(api_client, "conversations/99999/read"), 404)


def test_mark_an_account_read(api_client: APIClient) -> None:
    conversation = make_conversation(make_account(1))
    other = make_conversation(make_account(2))
    for one in (conversation, conversation, other):
        make_message(one, one.messages.count())
    path = f"accounts/{conversation.account_id}/read"
    assert post(api_client, path).json() == {"read": 2, "unread": 0}
    assert api_client.get(f"{V1}/accounts/{other.account_id}").json()["unread_total"] == 1


def test_summary(api_client: APIClient) -> None:
    make_account(1, messages_total=4, unread_total=2, conversations_total=1)
    make_account(2, error_count=1)
    body = api_client.get(f"{V1}/inbox/summary").json()
    assert body.items() >= {"accounts": 2, "failing": 1, "messages": 4, "unread": 2}.items()


def test_the_other_lists_and_their_rows(api_client: APIClient) -> None:
    account = fill(accounts=2, each=2)
    for name in ("messages", "posts", "comments", "sync-runs", "dead-letters"):
        rows = api_client.get(f"{V1}/{name}?account={account.pk}").json()["results"]
        assert len(rows) == 2, name
        assert {row["account"] for row in rows} == {account.pk}
        one = api_client.get(f"{V1}/{name}/{rows[0]['id']}").json()
        assert one.items() >= rows[0].items()
        assert errors_of(api_client.get(f"{V1}/{name}/999999999999999999"), 404)


def test_the_raw_record_is_for_those_who_operate(
    api: Callable[..., APIClient], viewer: Any, operator: Any
) -> None:
    fill(accounts=1, each=1)
    path = f"{V1}/dead-letters"
    assert "raw words" not in api(operator).get(path).content.decode()
    number = api(operator).get(path).json()["results"][0]["id"]
    assert api(operator).get(f"{path}/{number}").json()["raw"] == {"body": "raw words"}
    assert api(viewer).get(f"{path}/{number}").json()["raw"] is None


def test_platforms_tell_what_they_need(api_client: APIClient) -> None:
    matrix = next(
        one for one in api_client.get(f"{V1}/platforms").json() if one["name"] == "matrix"
    )
    assert matrix["can_wait"] is True
    assert "password" in matrix["credentials"]["properties"]
