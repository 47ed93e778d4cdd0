"""What strangers send: odd ids, odd tokens, and the pages that say no."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.core.exceptions import SuspiciousOperation
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import translation
from django.views import defaults
from rest_framework.test import APIClient

from lifecycle.models import WorkerConfig
from sync import services, store
from sync.models import Account, Conversation, Message
from sync.types import ConversationRecord, Direction, Lease, LoginState, Merged, MessageRecord

pytestmark = pytest.mark.django_db

ODD = ["²", "١", "99999999999999999999999999", "0", "1e3", "-1"]


@pytest.fixture
def talk(db: None) -> Conversation:
    """A conversation with one unread message."""
    account = services.create_account(
        {
            "platform": "matrix",
            "identifier": "@a:b",
            "endpoint": "https://b",
            "credentials": {"username": "a", "password": "long enough"},
        }
    )
    now = datetime(2026, 3, 1, tzinfo=UTC)
    row = MessageRecord(
        external_id="$1",
        conversation_id="!1",
        sender_id="@c",
        sender_name="C",
        text="hello",
        sent_at=now,
        direction=Direction.INBOUND,
    )
    merged = Merged("c", (ConversationRecord("!1", "Room"),), (row,), read=2)
    store.ingest(Lease(account.pk, account.epoch), account.sequence, merged)
    return Conversation.objects.get()


@pytest.mark.parametrize("odd", ODD)
def test_odd_ids_in_addresses_are_not_found(
    client: Client,
    administrator: User,
    talk: Conversation,
    make_config: Callable[..., WorkerConfig],
    odd: str,
) -> None:
    config = make_config()
    client.force_login(administrator)
    chat = f"/admin/sync/conversation/{talk.pk}"
    for address in (
        f"/admin/lifecycle/workerruntime/{odd}/change/",
        f"/admin/lifecycle/rollout/{odd}/change/",
        f"/admin/sync/conversation/{odd}/change/",
        f"{chat}/older/?before={odd}",
        f"/admin/lifecycle/workerconfig/{odd}/history/",
        f"/admin/lifecycle/workerconfig/{odd}/history/1/",
        f"/admin/lifecycle/workerconfig/{config.pk}/history/{odd}/",
    ):
        assert client.get(address).status_code == 404, address
    assert client.get(f"{chat}/change/?since={odd}").status_code == 200


@pytest.mark.parametrize("odd", ["", "²", "١", "-1", "1e3", str(2**63), "9" * 5000])
def test_an_odd_place_in_the_feed_is_refused(client: Client, viewer: User, odd: str) -> None:
    client.force_login(viewer)
    events = reverse("admin:sync_conversation_events")
    assert client.get(events, {"since": odd}).status_code == 400
    assert client.get(events, {"since": "0"}).status_code == 200


@pytest.mark.parametrize("odd", [*ODD, "everything"])
def test_an_odd_last_message_marks_nothing_read(
    client: Client, operator: User, talk: Conversation, odd: str
) -> None:
    client.force_login(operator)
    read = reverse("admin:sync_conversation_read", args=[talk.pk])
    answer = client.post(read, {"up_to": odd})
    said = [str(message) for message in get_messages(answer.wsgi_request)]
    assert said == [f"There is no message {odd} in this conversation."]
    assert not Message.objects.get().is_read
    assert client.post(read, {"up_to": ""}).status_code == 302  # nothing was shown
    assert not Message.objects.get().is_read
    client.post(read, {"up_to": Message.objects.get().pk})
    assert Message.objects.get().is_read


@pytest.mark.parametrize("token", ["\xff\xfe", "²", "a\x00b", "nonsense", "zz" * 40])
def test_a_token_that_is_none_is_a_401(token: str) -> None:
    answer = APIClient().get("/api/v1/workers", HTTP_AUTHORIZATION=f"Token {token}")
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["code"] == "authentication_failed"


def test_healthz_takes_no_post() -> None:
    assert Client(enforce_csrf_checks=True).post("/healthz").status_code == 405


# --- pages that say no -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "title"), [("en", "nothing here"), ("zh-hans", "这里什么也没有")]
)
def test_a_missing_page_leads_back_in_the_readers_language(
    client: Client, operator: User, language: str, title: str
) -> None:
    client.force_login(operator)
    client.cookies["django_language"] = language
    answer = client.get("/admin/sync/conversation/1/change/")
    text = answer.content.decode()
    assert answer.status_code == 404
    assert title in text
    assert f'href="{reverse("admin:index")}"' in text


def test_every_refusal_has_a_page(client: Client, viewer: User) -> None:
    client.force_login(viewer)
    refused = client.get(reverse("admin:lifecycle_workerconfig_add"))
    assert refused.status_code == 403
    assert "You may not do this" in refused.content.decode()

    forged = Client(enforce_csrf_checks=True)
    forged.force_login(viewer)
    answer = forged.post(reverse("admin:logout"))
    assert answer.status_code == 403
    assert "open for too long" in answer.content.decode()

    request = RequestFactory().get("/")
    with translation.override("zh-hans"):
        for page in (
            defaults.bad_request(request, SuspiciousOperation()),
            defaults.server_error(request),
        ):
            assert page.status_code in (400, 500)
            assert "返回 Muster" in page.content.decode()
            assert 'lang="zh-hans"' in page.content.decode()


def test_who_has_no_role_is_told_so(client: Client, make_user: Callable[..., User]) -> None:
    client.force_login(make_user("newcomer", is_staff=True))
    assert "You have no role yet" in client.get(reverse("admin:index")).content.decode()


# --- accounts --------------------------------------------------------------------------------


def test_a_disabled_account_is_not_checked_and_not_failing(
    client: Client, api_client: APIClient, admin_user: User, talk: Conversation
) -> None:
    account = talk.account
    Account.objects.update(error_count=2, last_error="it was broken", login_state="failed")
    client.force_login(admin_user)
    assert "it was broken" in client.get(reverse("admin:index")).content.decode()
    Account.objects.update(enabled=False)
    answer = api_client.post(f"/api/v1/accounts/{account.pk}/check")
    assert answer.status_code == 409
    assert "disabled" in answer.json()["errors"][0]["detail"]
    assert "it was broken" not in client.get(reverse("admin:index")).content.decode()


def test_a_login_that_works_ends_its_error(talk: Conversation) -> None:
    account = talk.account
    Account.objects.update(last_error="wrong password", last_error_at=datetime.now(UTC))
    services.record_login(Lease(account.pk, account.epoch), LoginState.SUCCESS, {"t": 1})
    account.refresh_from_db()
    assert (account.last_error, account.last_error_at) == ("", None)


def test_two_people_edit_one_account(
    client: Client, administrator: User, talk: Conversation
) -> None:
    client.force_login(administrator)
    change = reverse("admin:sync_account_change", args=[talk.account_id])
    seen = client.get(change).context["adminform"].form["seen"].value()
    services.update_account(talk.account, {"name": "Theirs"})
    given = {
        "platform": "matrix",
        "identifier": "@a:b",
        "endpoint": "https://b",
        "name": "Mine",
        "interval_s": 30,
        "stalled_after_s": 300,
        "audit_interval_s": 3600,
        "enabled": "on",
        "seen": seen,
    }
    answer = client.post(change, given)
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "changed this while you edited it" in text
    assert "Theirs" in text
    assert 'value="Mine"' in text
    assert Account.objects.get().name == "Theirs"
    given["seen"] = answer.context["adminform"].form["seen"].value()
    assert client.post(change, given).status_code == 302
    assert Account.objects.get().name == "Mine"
