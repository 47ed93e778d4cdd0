"""The webhook address over HTTP, good requests and bad ones [S13]."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from crm.asgi import Handler
from sync.hooks import receiver
from sync.hooks.throttle import Places, Throttle
from sync.models import Account, DeadLetter, HookDelivery, HookEndpoint
from sync.services import deliveries
from tests.pushed.requests import (
    CUSTOMER,
    DOUYIN,
    ME,
    NUMBER,
    TELEGRAM,
    WHATSAPP,
    Pushed,
    comment_event,
    douyin,
    notification,
    private_message,
    telegram,
    text_message,
    update,
    whatsapp,
)
from tests.served import served
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

LATER = timedelta(hours=1)


@pytest.fixture(scope="module")
def handler() -> Handler:
    return Handler()


@pytest.fixture(scope="module")
def web(handler: Handler) -> Iterator[httpx.Client]:
    with served(handler) as address, httpx.Client(base_url=address, timeout=20) as client:
        yield client


@pytest.fixture(autouse=True)
def _roomy(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test sent is not counted against the next one's rate."""
    throttle = Throttle(**receiver.THROTTLE)  # type: ignore[arg-type]
    monkeypatch.setattr(handler.receiver, "_throttle", throttle)


def account(platform: str, identifier: str, credentials: dict[str, Any], **more: Any) -> Account:
    due = timezone.now() + LATER
    return Account.objects.create(
        platform=platform,
        identifier=identifier,
        credentials=credentials,
        **{"next_due_at": due, **more},
    )


@pytest.fixture
def shop() -> Account:
    return account("douyin", ME, DOUYIN)


@pytest.fixture
def number() -> Account:
    return account("whatsapp", NUMBER, WHATSAPP)


@pytest.fixture
def bot() -> Account:
    return account("telegram", "@bot", TELEGRAM)


def path(one: Account) -> str:
    return f"/api/v1/hooks/{one.platform}/{one.pk}"


def push(web: httpx.Client, one: Account, pushed: Pushed) -> httpx.Response:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in pushed.headers.items()]
    return web.post(path(one), content=pushed.body, headers=headers)


def code_of(response: httpx.Response, status: int) -> str:
    """After checking that the answer has the one shape of errors."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"type", "errors"}
    assert set(body["errors"][0]) == {"code", "detail", "attr"}
    return str(body["errors"][0]["code"])


def counted(one: Account, **wanted: int) -> HookEndpoint:
    """The account's counters, once they are written; that takes a second."""

    def look() -> HookEndpoint | None:
        found = HookEndpoint.objects.filter(pk=one.pk).first()
        right = found and all(getattr(found, name) == n for name, n in wanted.items())
        return found if right else None

    return eventually(look, timeout_s=15)  # type: ignore[return-value]


# --- what is taken ----------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["douyin", "telegram", "whatsapp"])
def test_a_signed_delivery_is_there_when_the_answer_comes(
    web: httpx.Client, shop: Account, number: Account, bot: Account, platform: str
) -> None:
    one = {"douyin": shop, "telegram": bot, "whatsapp": number}[platform]
    pushed = {
        "douyin": douyin(private_message(1), msg_id="m-1"),
        "telegram": telegram(update(1)),
        "whatsapp": whatsapp(notification(text_message(1))),
    }[platform]
    response = push(web, one, pushed)
    assert response.status_code == 200
    row = HookDelivery.objects.get()
    assert (row.account_id, row.state, bytes(row.body)) == (one.pk, "pending", pushed.body)
    assert (
        row.order_key == {"douyin": "@talk==", "telegram": "7001", "whatsapp": CUSTOMER}[platform]
    )
    assert not any("signature" in name or "secret" in name for name in row.headers)
    one.refresh_from_db()
    assert one.next_due_at <= timezone.now(), "its check is woken"


def test_the_account_is_woken_by_the_first_that_waits_alone(
    web: httpx.Client, bot: Account
) -> None:
    push(web, bot, telegram(update(1)))
    Account.objects.update(next_due_at=timezone.now() + LATER)
    push(web, bot, telegram(update(2)))
    bot.refresh_from_db()
    assert bot.next_due_at > timezone.now(), "the check that was woken finds both"
    HookDelivery.objects.update(state="done")
    push(web, bot, telegram(update(3)))
    bot.refresh_from_db()
    assert bot.next_due_at <= timezone.now()


def test_waking_and_storing_are_one_transaction(web: httpx.Client, bot: Account) -> None:
    with connection.cursor() as cursor:
        cursor.execute("LISTEN muster_accounts")
    push(web, bot, telegram(update(1)))
    assert connection.connection is not None
    heard = list(connection.connection.notifies(timeout=2, stop_after=1))
    assert [one.payload for one in heard] == [str(bot.pk)]
    with connection.cursor() as cursor:
        cursor.execute("UNLISTEN *")


def test_a_repeat_is_dropped_and_counted(web: httpx.Client, shop: Account) -> None:
    pushed = douyin(private_message(1), msg_id="m-1")
    assert [push(web, shop, pushed).status_code for _ in range(3)] == [200, 200, 200]
    assert HookDelivery.objects.get().repeats == 2
    counted(shop, accepted=1, repeated=2)


def test_the_same_delivery_at_once_is_stored_once(web: httpx.Client, number: Account) -> None:
    pushed = whatsapp(notification(text_message(1)))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _n: push(web, number, pushed).status_code, range(8)))
    assert answers == [200] * 8
    assert HookDelivery.objects.get().repeats == 7


def test_what_names_another_account_of_ours_goes_there(web: httpx.Client, shop: Account) -> None:
    """Douyin knows one address for each app."""
    other = account("douyin", "another-open-id", DOUYIN)
    event = private_message(1) | {"to_user_id": "another-open-id"}
    assert push(web, shop, douyin(event, msg_id="m-1")).status_code == 200
    assert HookDelivery.objects.get().account_id == other.pk


def test_what_another_app_would_have_to_sign_stays(web: httpx.Client, shop: Account) -> None:
    account("douyin", "another-open-id", {**DOUYIN, "client_secret": "another-secret"})
    event = private_message(1) | {"to_user_id": "another-open-id"}
    assert push(web, shop, douyin(event, msg_id="m-1")).status_code == 200
    assert HookDelivery.objects.get().account_id == shop.pk


# --- handshakes -------------------------------------------------------------------------------


def test_whatsapp_handshake(web: httpx.Client, number: Account) -> None:
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444"}
    right = {**query, "hub.verify_token": WHATSAPP["verify_token"]}
    response = web.get(path(number), params=right)
    assert (response.status_code, response.text) == (200, "1158201444")
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["x-content-type-options"] == "nosniff"
    wrong = {**query, "hub.verify_token": "guess"}
    assert code_of(web.get(path(number), params=wrong), 401) == "bad_signature"
    assert code_of(web.get(path(number)), 401) == "bad_signature"
    assert not HookDelivery.objects.exists()


def test_douyin_handshake(web: httpx.Client, shop: Account) -> None:
    event = {"event": "verify_webhook", "client_key": "", "content": {"challenge": 12345}}
    response = push(web, shop, douyin(event))
    assert (response.status_code, response.json()) == (200, {"challenge": 12345})
    wrong = douyin(event, secret="another-secret")
    assert code_of(push(web, shop, wrong), 401) == "bad_signature"
    assert not HookDelivery.objects.exists()


# --- what is not taken ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pushed",
    [
        douyin(private_message(1), secret="another-secret"),
        Pushed(douyin(private_message(1)).body),
        Pushed(douyin(private_message(1)).body, {"X-Douyin-Signature": "ü"}),
        Pushed(b"", {"X-Douyin-Signature": ""}),
        Pushed(douyin(private_message(1)).body + b" ", douyin(private_message(1)).headers),
    ],
    ids=["another secret", "none", "no ascii", "nothing", "changed body"],
)
def test_a_bad_signature_is_counted_and_not_stored(
    web: httpx.Client, shop: Account, pushed: Pushed
) -> None:
    assert code_of(push(web, shop, pushed), 401) == "bad_signature"
    assert not HookDelivery.objects.exists()
    assert not DeadLetter.objects.exists()
    endpoint = counted(shop, rejected=1)
    assert endpoint.last_rejection
    assert endpoint.last_rejected_at is not None
    shop.refresh_from_db()
    assert shop.next_due_at > timezone.now()


def test_one_that_was_captured_long_ago_is_too_old(web: httpx.Client, shop: Account) -> None:
    old = datetime.now(UTC) - timedelta(days=20)
    assert code_of(push(web, shop, douyin(private_message(1, at=old), msg_id="x")), 401)
    young = datetime.now(UTC) - timedelta(days=2)
    assert push(web, shop, douyin(private_message(2, at=young), msg_id="y")).status_code == 200
    counted(shop, rejected=1, accepted=1)


def test_a_wrong_account_gives_nothing_away(web: httpx.Client, shop: Account) -> None:
    pushed = douyin(private_message(1))
    wrong = douyin(private_message(1), secret="another-secret")
    known = push(web, shop, wrong)
    for where in (
        "/api/v1/hooks/douyin/999999",
        f"/api/v1/hooks/telegram/{shop.pk}",
        f"/api/v1/hooks/nothing/{shop.pk}",
        "/api/v1/hooks/matrix/1",
    ):
        response = web.post(where, content=pushed.body, headers=pushed.headers)
        assert (response.status_code, response.content) == (401, known.content), where
        assert web.get(where).content == known.content
    headers = {name for name in known.headers if name != "date"}
    assert headers == {name for name in response.headers if name != "date"}


def test_strangers_leave_nothing_in_memory(web: httpx.Client, handler: Handler) -> None:
    """Whatever names they invent: each once was an entry for good."""
    before = repr(vars(handler.receiver.counter))
    for number in range(20):
        assert web.get(f"/api/v1/hooks/invented-{number}/1").status_code == 401
    assert repr(vars(handler.receiver.counter)) == before


def test_other_addresses_below_it_need_a_login(web: httpx.Client) -> None:
    for where in ("/api/v1/hooks", "/api/v1/hooks/douyin", "/api/v1/hooks/douyin/1/2"):
        assert web.post(where, content=b"{}").status_code == 401
        assert "bad_signature" not in web.post(where, content=b"{}").text
    assert code_of(web.put("/api/v1/hooks/douyin/1"), 405) == "method_not_allowed"


def test_malformed_and_signed_is_a_dead_letter_once(web: httpx.Client, shop: Account) -> None:
    for body in (b"{", b"[1]", b'{"event": 5}', b"\xff\x00", b"[" * 100_000):
        pushed = douyin(body, msg_id="m")
        for _ in range(2):  # Douyin tries three times
            assert code_of(push(web, shop, pushed), 400) == "malformed"
    letters = DeadLetter.objects.order_by("pk")
    assert [one.kind for one in letters] == ["delivery"] * 5
    assert all(one.error for one in letters)
    assert dict(letters[0].raw) == {"text": "{"}
    assert list(HookDelivery.objects.values_list("state", "repeats")) == [("refused", 1)] * 5
    counted(shop, malformed=10)


def test_too_large_is_not_read(web: httpx.Client, shop: Account) -> None:
    body = b"x" * (receiver.LARGEST_BODY + 1)
    response = push(web, shop, douyin(body))
    assert code_of(response, 413) == "too_large"

    def drip() -> Iterator[bytes]:  # no Content-Length
        for _ in range(receiver.LARGEST_BODY // 65536 + 2):
            yield b"y" * 65536

    try:
        response = web.post(path(shop), content=drip())
        assert code_of(response, 413) == "too_large"
    except (httpx.WriteError, httpx.ReadError):
        pass  # cut off in mid-body: also right
    assert not HookDelivery.objects.exists()
    counted(shop, too_large=2)


def test_the_largest_that_fits_is_taken(web: httpx.Client, number: Account) -> None:
    room = receiver.LARGEST_BODY - len(whatsapp(notification(text_message(1, ""))).body)
    pushed = whatsapp(notification(text_message(1, "x" * room)))
    assert len(pushed.body) == receiver.LARGEST_BODY
    assert push(web, number, pushed).status_code == 200
    assert len(HookDelivery.objects.get().body) == receiver.LARGEST_BODY


def test_a_body_that_does_not_come_ends(
    web: httpx.Client, shop: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "BODY_WITHIN_S", 0.3)
    parts = urlsplit(str(web.base_url))
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as link:
        link.sendall(
            f"POST {path(shop)} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode()
        )
        assert link.recv(100).startswith(b"HTTP/1.1 408")


def test_large_bodies_are_held_a_few_at_a_time(
    web: httpx.Client, handler: Handler, number: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connections come with one, whoever sends them; what is small passes by."""
    places = Places(2)
    monkeypatch.setattr(handler.receiver, "_large", places)
    large = whatsapp(notification(text_message(1, "x" * receiver.SMALL_BODY)))
    small = whatsapp(notification(text_message(2)))
    parts = urlsplit(str(web.base_url))
    with ExitStack() as links:
        for _ in range(2):
            link = socket.create_connection((parts.hostname, parts.port), timeout=10)
            links.enter_context(link)
            head = f"POST {path(number)} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
            link.sendall(head.encode() + b"x" * (receiver.SMALL_BODY + 1))
        eventually(lambda: places.taken == 2)
        refused = push(web, number, large)
        assert code_of(refused, 503) == "unavailable"
        assert refused.headers["retry-after"] == "5"
        assert push(web, number, small).status_code == 200
        link.close()
        eventually(lambda: places.taken == 1)
        assert push(web, number, large).status_code == 200
    eventually(lambda: places.taken == 0)
    counted(number, accepted=2, unavailable=1)


def test_a_disabled_account_takes_nothing_and_knows_it(web: httpx.Client, shop: Account) -> None:
    Account.objects.update(enabled=False)
    response = push(web, shop, douyin(private_message(1), msg_id="m-1"))
    assert code_of(response, 503) == "unavailable"
    assert response.headers["retry-after"]
    assert code_of(push(web, shop, douyin(private_message(1), secret="wrong-secret")), 401)
    assert not HookDelivery.objects.exists()
    endpoint = counted(shop, missed=1, rejected=1)
    assert endpoint.missed_since == endpoint.missed_until is not None


# --- under load, and without a database -------------------------------------------------------


def test_without_a_database_the_platform_is_asked_to_try_again(
    web: httpx.Client, shop: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(deliveries, "addressed", away)
    response = push(web, shop, douyin(private_message(1)))
    assert code_of(response, 503) == "unavailable"
    assert response.headers["retry-after"] == "5"
    monkeypatch.undo()
    assert push(web, shop, douyin(private_message(1))).status_code == 200
    counted(shop, unavailable=1, accepted=1)


def test_a_database_that_hangs_is_not_waited_for(
    web: httpx.Client, shop: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "ANSWER_WITHIN_S", 0.3)
    released = threading.Event()
    original: Any = deliveries.take_delivery

    def hang(*args: Any) -> bool:
        released.wait(20)
        return bool(original(*args))

    monkeypatch.setattr(deliveries, "take_delivery", hang)
    began = time.monotonic()
    pushed = douyin(private_message(1), msg_id="m-1")
    assert code_of(push(web, shop, pushed), 503) == "unavailable"
    assert time.monotonic() - began < 15
    released.set()  # it was stored after all: what is sent again is a repeat
    eventually(HookDelivery.objects.exists)
    monkeypatch.undo()
    assert push(web, shop, pushed).status_code == 200
    assert HookDelivery.objects.get().repeats == 1


def test_a_row_lock_on_the_account_holds_nobody_up(web: httpx.Client, bot: Account) -> None:
    """A batch that is being stored holds the account's row; only the first delivery wakes it."""
    push(web, bot, telegram(update(1)))
    from django.db import transaction

    with transaction.atomic():
        Account.objects.select_for_update(no_key=True).get(pk=bot.pk)
        assert push(web, bot, telegram(update(2))).status_code == 200
    assert HookDelivery.objects.count() == 2


def test_one_account_does_not_take_the_place_of_others(
    web: httpx.Client,
    handler: Handler,
    shop: Account,
    bot: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    narrow = Throttle(rate=0.001, burst=3, at_once=64, in_all=512)
    monkeypatch.setattr(handler.receiver, "_throttle", narrow)
    codes = [
        push(web, shop, douyin(comment_event(n), msg_id=f"m-{n}")).status_code for n in range(5)
    ]
    assert codes == [200, 200, 200, 429, 429]
    assert push(web, bot, telegram(update(1))).status_code == 200
    limited = push(web, shop, douyin(comment_event(9), msg_id="m-9"))
    assert code_of(limited, 429) == "throttled"
    assert limited.headers["retry-after"] == "1"
    counted(shop, accepted=3, throttled=3)


def test_strangers_do_not_use_up_an_account_s_rate(
    web: httpx.Client, handler: Handler, shop: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = Throttle(rate=0.001, burst=3, at_once=64, in_all=512)
    monkeypatch.setattr(handler.receiver, "_throttle", narrow)
    forged = douyin(private_message(1), secret="another-secret")
    assert {push(web, shop, forged).status_code for _ in range(10)} == {401}
    assert push(web, shop, douyin(private_message(1), msg_id="m-1")).status_code == 200


def test_a_mistake_of_ours_is_an_answer_too(
    web: httpx.Client, shop: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(deliveries, "take_delivery", broken)
    assert code_of(push(web, shop, douyin(private_message(1))), 500) == "error"


def test_it_needs_no_session_and_no_csrf_token(web: httpx.Client, bot: Account) -> None:
    pushed = telegram(update(1))
    response = web.post(
        path(bot),
        content=pushed.body,
        headers={**pushed.headers, "Cookie": "muster_session=x; muster_csrf=y", "Origin": "null"},
    )
    assert response.status_code == 200
    assert "set-cookie" not in response.headers
