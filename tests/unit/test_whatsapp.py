"""The WhatsApp adapter: notifications, webhooks, and what it makes of the Graph API's answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import respx

from sync.errors import (
    BadSignature,
    LoginExpired,
    LoginFailed,
    Malformed,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms.base import HookRequest
from sync.platforms.whatsapp import platform
from sync.platforms.whatsapp.adapter import WhatsAppConnection
from sync.platforms.whatsapp.events import read_notification
from sync.platforms.whatsapp.hooks import WhatsAppHooks
from sync.types import (
    AccountRef,
    ConversationRecord,
    Direction,
    LoginStep,
    MessageRecord,
    OutgoingReply,
    Refused,
)
from tests.pushed.requests import CUSTOMER, NUMBER, WHATSAPP, notification, text_message, whatsapp

pytestmark = pytest.mark.anyio

URL = "https://graph.facebook.com/v21.0"
SESSION: dict[str, object] = {"phone_number_id": NUMBER}
ACCOUNT = AccountRef(1, "whatsapp", NUMBER, "", dict(WHATSAPP), SESSION)
NOW = datetime.now(UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Any:
    with respx.mock(base_url=f"{URL}/{NUMBER}", assert_all_called=False) as mock:
        yield mock


@pytest.fixture
async def connection(server: Any, anyio_backend: str) -> AsyncIterator[WhatsAppConnection]:
    async with platform.connect(ACCOUNT) as opened:
        yield opened


def messages(raw: object) -> list[MessageRecord]:
    return [one for one in read_notification(raw, NUMBER) if isinstance(one, MessageRecord)]


# --- notifications ----------------------------------------------------------------------------


def test_a_text_message() -> None:
    raw = notification(text_message(1, "hello", timestamp="1603059201"))
    talk, said = read_notification(raw, NUMBER)
    assert talk == ConversationRecord(CUSTOMER, "Kerry")
    assert isinstance(said, MessageRecord)
    assert (said.external_id, said.conversation_id) == ("wamid.1", CUSTOMER)
    assert (said.sender_id, said.sender_name, said.text) == (CUSTOMER, "Kerry", "hello")
    assert said.sent_at == datetime(2020, 10, 18, 22, 13, 21, tzinfo=UTC)
    assert said.direction is Direction.INBOUND


@pytest.mark.parametrize(
    ("held", "text", "url"),
    [
        ({"type": "image", "image": {"id": "I", "caption": "me"}}, "me", "I"),
        ({"type": "document", "document": {"id": "D", "filename": "a.pdf"}}, "", "D"),
        ({"type": "audio", "audio": {"id": "A"}}, "", "A"),
        ({"type": "sticker", "sticker": {"id": "S"}}, "", "S"),
        ({"type": "reaction", "reaction": {"message_id": "x", "emoji": "👍"}}, "👍", ""),
        ({"type": "button", "button": {"text": "Yes", "payload": "y"}}, "Yes", ""),
        ({"type": "interactive", "interactive": {"list_reply": {"title": "One"}}}, "One", ""),
        ({"type": "location", "location": {"latitude": 1, "longitude": 2}}, "1.0, 2.0", ""),
        ({"type": "unsupported", "errors": [{"code": 131051}]}, "", ""),
    ],
)  # fmt: skip
def test_media_are_references(held: dict[str, Any], text: str, url: str) -> None:
    raw = text_message(1, **held)
    if held["type"] != "text":
        del raw["text"]
    (said,) = messages(notification(raw))
    assert (said.content_type, said.text) == (held["type"], text)
    assert [one.url for one in said.attachments] == ([f"whatsapp:{url}"] if url else [])


def test_groups_and_what_we_wrote_on_the_phone() -> None:
    raw = notification(text_message(1, group_id="group-1"))
    assert read_notification(raw, NUMBER)[0] == ConversationRecord("group-1", "group-1", True)
    (said,) = messages(raw)
    assert (said.conversation_id, said.sender_id) == ("group-1", CUSTOMER)
    echo = text_message(2) | {"from": "15550783881", "to": CUSTOMER}
    raw = notification(field="smb_message_echoes", message_echoes=[echo])
    (ours,) = messages(raw)
    assert (ours.conversation_id, ours.direction) == (CUSTOMER, Direction.OUTBOUND)


def test_one_that_is_malformed_takes_no_other_with_it_and_can_be_read_again() -> None:
    broken = {"id": "wamid.2", "from": CUSTOMER, "type": "text"}
    rows = read_notification(notification(text_message(1), broken, text_message(3)), NUMBER)
    (refused,) = (one for one in rows if isinstance(one, Refused))
    assert (refused.external_id, refused.kind) == ("wamid.2", "message")
    assert "timestamp" in refused.error
    assert [one.external_id for one in rows if isinstance(one, MessageRecord)] == [
        "wamid.1",
        "wamid.3",
    ]
    mended = json.loads(refused.raw)
    mended["entry"][0]["changes"][0]["value"]["messages"][0]["timestamp"] = "1603059201"
    again = platform.reread(ACCOUNT, "message", json.dumps(mended))
    assert [one.external_id for one in again] == [CUSTOMER, "wamid.2"]


def test_only_a_failed_status_is_seen() -> None:
    statuses: list[dict[str, Any]] = [
        {"id": f"wamid.{name}", "status": name} for name in ("sent", "delivered", "read")
    ]
    assert read_notification(notification(statuses=statuses), NUMBER) == []
    failed = {
        "id": "wamid.9",
        "status": "failed",
        "errors": [{"code": 131047, "title": "Re-engagement message"}],
    }
    (refused,) = read_notification(notification(statuses=[failed]), NUMBER)
    assert isinstance(refused, Refused)
    assert "131047: Re-engagement message" in refused.error
    assert refused.external_id == "wamid.9"


def test_what_is_for_another_number_and_what_is_nonsense() -> None:
    nonsense: list[Any] = [notification(text_message(1), number="999"), {}, [], None, "x"]
    for raw in nonsense:
        (refused,) = read_notification(raw, NUMBER)
        assert isinstance(refused, Refused)
        assert refused.error
    assert read_notification(notification(field="account_update"), NUMBER) == []


# --- webhooks ---------------------------------------------------------------------------------


def check(pushed: Any, account: AccountRef = ACCOUNT, now: datetime = NOW) -> Any:
    headers = {name.lower(): value for name, value in pushed.headers.items()}
    return WhatsAppHooks().check(account, HookRequest("POST", headers, {}, pushed.body), now)


def test_a_delivery() -> None:
    delivery = check(whatsapp(notification(text_message(1))))
    assert (delivery.order_key, delivery.recipient) == (CUSTOMER, NUMBER)
    assert len(delivery.delivery_id) == 64
    again = check(whatsapp(notification(text_message(1))))
    assert again.delivery_id == delivery.delivery_id
    assert check(whatsapp(notification(text_message(2)))).delivery_id != delivery.delivery_id


def test_signature_and_freshness() -> None:
    pushed = whatsapp(notification(text_message(1)))
    for broken in (
        whatsapp(notification(text_message(1)), secret="another-secret"),
        replace(pushed, body=pushed.body + b" "),
        replace(pushed, headers={}),
        replace(pushed, headers={"x-hub-signature-256": "sha1=00"}),
    ):
        with pytest.raises(BadSignature):
            check(broken)
    with pytest.raises(BadSignature):
        check(pushed, replace(ACCOUNT, credentials={}))
    with pytest.raises(BadSignature, match="too old"):
        check(pushed, now=NOW + timedelta(days=15))
    check(pushed, now=NOW + timedelta(days=7))
    for body in (b"{", b"[]", b'{"object": 1}', b"[" * 100_000):
        with pytest.raises(Malformed):
            check(whatsapp(body))


# --- answers ----------------------------------------------------------------------------------


def graph(status: int, code: int, message: str = "(#x) why", details: str = "") -> httpx.Response:
    error = {"message": message, "type": "OAuthException", "code": code}
    more = {"error_data": {"messaging_product": "whatsapp", "details": details}} if details else {}
    return httpx.Response(status, json={"error": error | more})


def reply() -> OutgoingReply:
    return OutgoingReply("key-1", "hi", NOW, conversation_id=CUSTOMER)


async def test_send(server: Any, connection: WhatsAppConnection) -> None:
    route = server.post("/messages").respond(json={"messages": [{"id": "wamid.7"}]})
    assert await connection.send(reply()) == "wamid.7"
    request = route.calls.last.request
    body = json.loads(request.content)
    assert body.items() >= {"to": CUSTOMER, "biz_opaque_callback_data": "key-1"}.items()
    assert request.headers["authorization"] == f"Bearer {WHATSAPP['access_token']}"
    with pytest.raises(RequestRejected, match="may have been sent"):
        await connection.find_sent(reply())


async def test_a_group_is_answered_as_one(server: Any, connection: WhatsAppConnection) -> None:
    route = server.post("/messages").respond(json={"messages": [{"id": "wamid.7"}]})
    for to, kind in ((CUSTOMER, "individual"), ("Y2FwaV9ncm91cDox", "group")):
        await connection.send(replace(reply(), conversation_id=to))
        body = json.loads(route.calls.last.request.content)
        assert (body["to"], body["recipient_type"]) == (to, kind)


async def test_mark_read(server: Any, connection: WhatsAppConnection) -> None:
    assert platform.marks_read
    route = server.post("/messages").respond(json={"success": True})
    await connection.mark_read(CUSTOMER, "wamid.3", datetime.now(UTC))
    request = route.calls.last.request
    assert json.loads(request.content) == {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": "wamid.3",
    }
    assert request.headers["authorization"] == f"Bearer {WHATSAPP['access_token']}"
    server.post("/messages").mock(return_value=graph(400, 100, "Invalid parameter"))
    with pytest.raises(RequestRejected, match="Invalid parameter"):
        await connection.mark_read(CUSTOMER, "wamid.of-another-number", datetime.now(UTC))
    server.post("/messages").respond(json={"success": False})
    with pytest.raises(RequestRejected, match="did not mark"):
        await connection.mark_read(CUSTOMER, "wamid.3", datetime.now(UTC))


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (graph(400, 131047, details="Message failed"), RequestRejected, "more than 24 hours"),
        (graph(400, 131026), RequestRejected, "can't be delivered"),
        (graph(400, 100, "Invalid parameter"), RequestRejected, "Invalid parameter"),
        (graph(401, 190, "Session has expired"), LoginExpired, "expired"),
        (graph(400, 130429), RateLimited, "130429"),
        (graph(400, 131056), RateLimited, "131056"),
        (graph(500, 131000), PlatformUnavailable, "131000"),
        (graph(503, 2), PlatformUnavailable, "2"),
        (httpx.Response(502, text="<html>"), PlatformUnavailable, "Graph API"),
        (httpx.Response(200, json={}), PlatformUnavailable, "nonsense"),
        (httpx.Response(200, json={"messages": []}), PlatformUnavailable, "nonsense"),
    ],
)
async def test_errors_in_plain_words(
    server: Any,
    connection: WhatsAppConnection,
    answer: httpx.Response,
    error: type[Exception],
    words: str,
) -> None:
    server.post("/messages").mock(return_value=answer)
    with pytest.raises(error, match=words):
        await connection.send(reply())


async def test_login_and_reading(server: Any, connection: WhatsAppConnection) -> None:
    async def tell(_step: LoginStep) -> None:
        return None

    number = server.get("").respond(json={"id": NUMBER, "verified_name": "Shop"})
    session = await connection.login(tell)
    assert session == {"phone_number_id": NUMBER, "phone_number": "", "name": "Shop"}
    batches = [batch async for batch in connection.read("", 0)]
    assert [batch.records for batch in batches] == [()]
    number.mock(return_value=graph(401, 190))
    with pytest.raises(LoginExpired):
        _ = [batch async for batch in connection.read("", 0)]
    with pytest.raises(LoginFailed) as caught:
        await connection.login(tell)
    assert WHATSAPP["access_token"] not in str(caught.value)
