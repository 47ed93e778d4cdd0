"""Webhook deliveries and addresses, over the API and in the admin [S13]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from crm import metrics
from sync.models import Account, HookDelivery, HookEndpoint
from sync.platforms.base import Delivery
from sync.services.deliveries import Settled, Tally, count, settle, take_delivery
from tests.db.api_helpers import V1, errors_of, make_account
from tests.pushed.requests import DOUYIN, ME, TELEGRAM, WHATSAPP

pytestmark = pytest.mark.django_db

LIST = f"{V1}/hook-deliveries"
SECRETS = [DOUYIN["client_secret"], TELEGRAM["webhook_secret"], WHATSAPP["verify_token"]]


@pytest.fixture
def shop(db: None) -> Account:
    return Account.objects.create(platform="douyin", identifier=ME, credentials=DOUYIN, name="Shop")


def push(account: Account, name: str, body: bytes = b'{"a": 1}', **more: Any) -> HookDelivery:
    delivery = Delivery(name, **more)
    take_delivery(account.pk, delivery, {"msg-id": name}, body, timezone.now())
    return HookDelivery.objects.get(account=account, delivery_id=name)


def test_deliveries_are_listed_the_last_first_and_filtered(
    api_client: APIClient, shop: Account
) -> None:
    other = make_account()
    one, two, three = push(shop, "a"), push(shop, "b"), push(other, "c")
    settle(shop.pk, [Settled(one.pk, error="no sender"), Settled(two.pk)], False, timezone.now())
    listed = api_client.get(LIST).json()["results"]
    assert [row["id"] for row in listed] == [three.pk, two.pk, one.pk]
    assert (listed[2]["state"], listed[2]["error"]) == ("refused", "no sender")
    assert (listed[2]["account_name"], listed[2]["platform"]) == ("Shop", "douyin")
    assert not {"body", "headers"} & set(listed[0])

    def ids(query: str) -> list[int]:
        return [row["id"] for row in api_client.get(f"{LIST}?{query}").json()["results"]]

    assert ids("state=pending") == [three.pk]
    assert ids(f"account={shop.pk}") == [two.pk, one.pk]
    assert ids("state=pending&platform=douyin") == []
    assert ids(f"account={shop.pk}&platform=douyin&state=done") == [two.pk]
    assert errors_of(api_client.get(f"{LIST}?state=lost"), 400) == {"state": "invalid_choice"}


def test_what_was_pushed_is_for_those_who_operate(
    api: Callable[..., APIClient], viewer: User, operator: User, shop: Account
) -> None:
    made = push(shop, "a", '{"text": "你好"}\xff'.encode("latin-1", "replace"))
    seen = api(operator).get(f"{LIST}/{made.pk}").json()
    assert seen["headers"] == {"msg-id": "a"}
    assert seen["body"].startswith('{"text"')
    hidden = api(viewer).get(f"{LIST}/{made.pk}").json()
    assert (hidden["headers"], hidden["body"]) == (None, None)
    assert errors_of(api(viewer).delete(f"{LIST}/{made.pk}"), 405)


def test_the_list_needs_the_same_queries_for_many(api_client: APIClient, shop: Account) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert api_client.get(LIST).status_code == 200
        return len(seen)

    push(shop, "a")
    few = queries()
    for number in range(20):
        push(shop, f"d{number}")
    assert queries() == few


@pytest.mark.parametrize(
    ("platform", "identifier", "credentials"),
    [("douyin", ME, DOUYIN), ("telegram", "@bot", TELEGRAM), ("whatsapp", "1065", WHATSAPP)],
)
def test_an_account_says_what_to_enter_at_its_platform(
    api_client: APIClient, platform: str, identifier: str, credentials: dict[str, str]
) -> None:
    account = Account.objects.create(
        platform=platform, identifier=identifier, credentials=credentials
    )
    count({account.pk: Tally({"accepted": 2, "rejected": 1}, rejection="another secret token")})
    said = api_client.get(f"{V1}/accounts/{account.pk}/hook")
    assert said.status_code == 200
    body = said.json()
    assert body["url"] == f"http://testserver/api/v1/hooks/{platform}/{account.pk}"
    assert body["url"] in [step["what"] for step in body["setup"]]
    assert (body["accepted"], body["rejected"]) == (2, 1)
    for secret in credentials.values():
        assert secret not in said.content.decode()


def test_a_platform_that_does_not_push_has_no_address(api_client: APIClient) -> None:
    account = make_account()
    assert errors_of(api_client.get(f"{V1}/accounts/{account.pk}/hook"), 404)
    assert errors_of(api_client.get(f"{V1}/accounts/999999/hook"), 404)


def test_the_account_s_page_shows_address_and_last_deliveries(
    client: Client, administrator: User, shop: Account
) -> None:
    client.force_login(administrator)
    page = reverse("admin:sync_account_change", args=[shop.pk])
    empty = client.get(page).content.decode()
    assert f"/api/v1/hooks/douyin/{shop.pk}" in empty
    assert "Nothing was pushed yet" in empty
    push(shop, "delivery-one")
    HookEndpoint.objects.create(
        account=shop,
        rejected=3,
        last_rejection="the signature is wrong",
        last_rejected_at=timezone.now(),
    )
    shown = client.get(page).content.decode()
    assert "delivery-one" in shown
    assert "the signature is wrong" in shown
    assert not any(secret in shown for secret in SECRETS)
    matrix = make_account()
    assert (
        "/api/v1/hooks/"
        not in client.get(reverse("admin:sync_account_change", args=[matrix.pk])).content.decode()
    )


def test_the_admin_lists_deliveries(
    client: Client, viewer: User, operator: User, shop: Account
) -> None:
    made = push(shop, "delivery-one", b'{"text": "<b>bold</b>"}')
    for user, sees in ((viewer, False), (operator, True)):
        client.force_login(user)
        listed = client.get(reverse("admin:sync_hookdelivery_changelist"))
        assert b"delivery-one" in listed.content
        page = client.get(reverse("admin:sync_hookdelivery_change", args=[made.pk])).content
        assert (b"&lt;b&gt;bold" in page) is sees
        assert b"<b>bold" not in page


def test_prometheus_hears_of_them(api_client: APIClient, shop: Account) -> None:
    metrics.cached.forget()
    push(shop, "a")
    count({shop.pk: Tally({"accepted": 2, "rejected": 5})})
    count({make_account().pk: Tally({"accepted": 1})})
    said = api_client.get("/metrics").content.decode()
    assert 'sync_webhook_requests{outcome="rejected",platform="douyin"} 5.0' in said
    assert 'sync_webhook_requests{outcome="accepted",platform="matrix"} 1.0' in said
    assert 'sync_webhook_pending{platform="douyin"} 1.0' in said
