"""The Telegram adapter: updates, webhooks, and what it makes of the Bot API's answers."""

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
    CursorInvalid,
    LoginExpired,
    LoginFailed,
    Malformed,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
    Unreachable,
)
from sync.platforms.base import HookRequest
from sync.platforms.telegram import platform
from sync.platforms.telegram.adapter import TelegramConnection
from sync.platforms.telegram.events import read_update
from sync.platforms.telegram.hooks import TelegramHooks
from sync.platforms.telegram.place import Place
from sync.types import (
    AccountRef,
    ConversationRecord,
    Direction,
    LoginStep,
    MessageRecord,
    OutgoingReply,
    Refused,
)
from tests.pushed.requests import BOB, BOT, PERSON, TELEGRAM, chat, telegram, update

pytestmark = pytest.mark.anyio

TOKEN = TELEGRAM["bot_token"]
URL = "https://api.telegram.org"
POLLED: dict[str, object] = {"bot_token": TOKEN}
SESSION: dict[str, object] = {"user_id": BOT, "username": "bot"}
ACCOUNT = AccountRef(1, "telegram", "@bot", "", POLLED, SESSION)
PUSHED = replace(ACCOUNT, credentials=dict(TELEGRAM))
NOW = datetime.now(UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Any:
    with respx.mock(base_url=f"{URL}/bot{TOKEN}", assert_all_called=False) as mock:
        yield mock


@pytest.fixture
async def connection(server: Any, anyio_backend: str) -> AsyncIterator[TelegramConnection]:
    async with platform.connect(ACCOUNT) as opened:
        yield opened


def good(result: object) -> httpx.Response:
    return httpx.Response(200, json={"ok": True, "result": result})


def bad(status: int, description: str, **parameters: object) -> httpx.Response:
    said: dict[str, object] = {"ok": False, "error_code": status, "description": description}
    return httpx.Response(status, json=said | ({"parameters": parameters} if parameters else {}))


async def tell(_step: LoginStep) -> None:
    return None


async def read(one: TelegramConnection, cursor: str = "", wait_s: float = 0) -> list[Any]:
    return [batch async for batch in one.read(cursor, wait_s)]


def message_of(raw: dict[str, Any]) -> MessageRecord:
    (found,) = (one for one in read_update(raw, BOT) if isinstance(one, MessageRecord))
    return found


# --- updates ----------------------------------------------------------------------------------


def test_a_private_message() -> None:
    talk, said = read_update(update(5, "hello", date=1_700_000_000), BOT)
    assert talk == ConversationRecord(str(BOB), "Bob B", is_group=False)
    assert isinstance(said, MessageRecord)
    assert said.external_id == f"{BOB}/5", "message ids count within their chat"
    assert (said.sender_id, said.sender_name) == (str(PERSON), "Bob B")
    assert (said.text, said.direction) == ("hello", Direction.INBOUND)
    assert said.sent_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_groups_channels_and_anonymous_admins() -> None:
    group = chat(-100, type="supergroup", title="Club", first_name=None)
    talk, said = read_update(update(1, chat=group, sender_chat=group), BOT)
    assert talk == ConversationRecord("-100", "Club", is_group=True)
    assert isinstance(said, MessageRecord)
    assert (said.sender_id, said.sender_name) == ("-100", "Club")
    posted = update(2, kind="channel_post", chat=chat(-5, type="channel", title="News"))
    del posted["channel_post"]["from"]
    assert message_of(posted).sender_id == ""


def test_an_edit_is_the_same_message_with_a_time() -> None:
    edited = message_of(update(5, "the", kind="edited_message", edit_date=1_700_000_100))
    assert edited.external_id == f"{BOB}/5"
    assert edited.edited_at == datetime.fromtimestamp(1_700_000_100, UTC)


@pytest.mark.parametrize(
    ("held", "kind", "text", "url"),
    [
        ({"photo": [{"file_id": "S"}, {"file_id": "L", "file_size": 9}]}, "photo", "", "L"),
        ({"document": {"file_id": "D", "file_name": "a.pdf"}}, "document", "", "D"),
        ({"voice": {"file_id": "V", "mime_type": "audio/ogg"}}, "voice", "", "V"),
        ({"sticker": {"file_id": "T", "emoji": "👍"}}, "sticker", "👍", "T"),
        ({"video": {"file_id": "X"}, "caption": "look"}, "video", "look", "X"),
        ({"location": {"latitude": 1.5, "longitude": 2}}, "location", "1.5, 2.0", ""),
        ({"contact": {"phone_number": "+1", "first_name": "A"}}, "contact", "A  +1", ""),
        ({"poll": {"question": "Why?"}}, "poll", "Why?", ""),
        ({"new_chat_members": []}, "service", "", ""),
    ],
)
def test_media_are_references(held: dict[str, Any], kind: str, text: str, url: str) -> None:
    said = message_of(update(1, "", **held))
    assert (said.content_type, said.text) == (kind, text)
    assert [one.url for one in said.attachments] == ([f"telegram:{url}"] if url else [])


def test_what_is_no_message_is_none_and_what_is_malformed_is_refused() -> None:
    assert read_update({"update_id": 1, "poll_answer": {}}, BOT) == []
    nonsense: list[Any] = [{}, {"update_id": -1}, [], 5, {"update_id": 1, "message": {"text": "x"}}]
    for raw in nonsense:
        (refused,) = read_update(raw, BOT)
        assert isinstance(refused, Refused)
        assert refused.error
        assert json.loads(refused.raw) == raw
        assert list(platform.reread(PUSHED, "message", refused.raw)) == [refused]


# --- webhooks ---------------------------------------------------------------------------------


def check(pushed: Any, account: AccountRef = PUSHED) -> Any:
    headers = {name.lower(): value for name, value in pushed.headers.items()}
    return TelegramHooks().check(account, HookRequest("POST", headers, {}, pushed.body), NOW)


def test_a_delivery_is_its_update() -> None:
    delivery = check(telegram(update(77)))
    assert (delivery.delivery_id, delivery.number, delivery.order_key) == ("77", 77, str(BOB))


def test_only_the_secret_token_counts() -> None:
    with pytest.raises(BadSignature):
        check(telegram(update(1), secret="another_secret_0123"))
    with pytest.raises(BadSignature):
        check(telegram(update(1), secret=""))
    with pytest.raises(BadSignature):
        check(telegram(update(1), secret=""), ACCOUNT)  # which has none
    for body in (b"{", b"[]", b'{"update_id": "x"}', b"[" * 100_000):
        with pytest.raises(Malformed):
            check(telegram(body))


# --- polling ----------------------------------------------------------------------------------


async def test_what_was_handed_over_is_forgotten_only_when_more_is_asked_for(
    server: Any, connection: TelegramConnection
) -> None:
    asked: list[Any] = []
    answers = [[update(n) for n in range(1, 101)], [update(101)]]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return good(answers.pop(0))

    server.post("/getUpdates").mock(side_effect=answer)
    reading = aiter(connection.read("", 0))
    first = await anext(reading)
    assert [one.get("offset") for one in asked] == [None]
    assert (first.more, Place.parse(first.cursor or "").update) == (True, 100)
    last = await anext(reading)
    assert [one.get("offset") for one in asked] == [None, 101]
    assert not last.more
    assert asked[0]["allowed_updates"] == [
        *("message", "edited_message", "channel_post", "edited_channel_post")
    ]
    assert await anext(reading, None) is None


async def test_updates_that_were_lost_are_a_gap(
    server: Any, connection: TelegramConnection
) -> None:
    server.post("/getUpdates").mock(side_effect=[good([update(9)]), good([update(12)]), good([])])
    (one,) = await read(connection)
    (two,) = await read(connection, one.cursor)
    assert [(gap.older_end, gap.newer_end) for gap in two.gaps] == [("9", "12")]
    (three,) = await read(connection, two.cursor)
    assert three.gaps == two.gaps


def test_numbers_begin_anew_after_a_week() -> None:
    place = Place(update=9, at=NOW - timedelta(days=8))
    assert place.after([5_000_000], NOW).gaps == ()
    assert Place.parse(place.text()) == place
    with pytest.raises(CursorInvalid):
        Place.parse("no cursor of ours")


async def test_after_a_quiet_week_a_lower_number_is_not_confirmed_unread(
    server: Any, connection: TelegramConnection
) -> None:
    waiting = {42: update(42)}

    def answer(request: httpx.Request) -> httpx.Response:
        """As the Bot API has it: what is below the offset is forgotten."""
        offset = json.loads(request.content).get("offset", 0)
        for number in [one for one in waiting if one < offset]:
            del waiting[number]
        return good(list(waiting.values()))

    server.post("/getUpdates").mock(side_effect=answer)
    place = Place(update=5_000_000, at=datetime.now(UTC) - timedelta(days=8))
    (batch,) = await read(connection, place.text())
    assert len(batch.records) == 2
    assert Place.parse(batch.cursor).update == 42
    assert waiting
    await read(connection, batch.cursor)
    assert not waiting, "in step again, it confirms"


async def test_it_waits_in_one_request(server: Any, connection: TelegramConnection) -> None:
    route = server.post("/getUpdates").mock(side_effect=[good([]), good([update(1)])])
    (batch,) = await read(connection, "", 30)
    assert len(batch.records) == 2
    assert [json.loads(one.request.content)["timeout"] for one in route.calls] == [29, 29]


async def test_with_a_webhook_nothing_is_polled(server: Any) -> None:
    polled = server.post("/getUpdates")
    info = server.post("/getWebhookInfo")
    async with platform.connect(PUSHED) as pushed:
        info.respond(json={"ok": True, "result": {"url": "https://x", "pending_update_count": 3}})
        (batch,) = await read(pushed)
        assert (batch.records, batch.remaining) == ((), 3)
        info.respond(json={"ok": True, "result": {"url": ""}})
        with pytest.raises(RequestRejected, match="setWebhook"):
            await read(pushed)
    assert not polled.called


# --- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (bad(401, "Unauthorized"), LoginExpired, "Unauthorized"),
        (bad(404, "Not Found"), LoginExpired, "Not Found"),
        (bad(500, "Internal"), PlatformUnavailable, "Internal"),
        (httpx.Response(502, text="<html>"), PlatformUnavailable, "502"),
        (httpx.Response(200, text="<html>"), PlatformUnavailable, "Bot API"),
        (good({"no": "list"}), PlatformUnavailable, "nonsense"),
        (
            bad(409, "Conflict: can't use getUpdates method while webhook is active"),
            RequestRejected,
            "deleteWebhook",
        ),
        (
            bad(409, "Conflict: terminated by other getUpdates request"),
            RequestRejected,
            "only one may",
        ),
    ],
)
async def test_errors_in_plain_words(
    server: Any,
    connection: TelegramConnection,
    answer: httpx.Response,
    error: type[Exception],
    words: str,
) -> None:
    server.post("/getUpdates").mock(return_value=answer)
    with pytest.raises(error, match=words) as caught:
        await read(connection)
    assert TOKEN not in str(caught.value)


async def test_retry_after_is_kept(server: Any, connection: TelegramConnection) -> None:
    asked = server.post("/getUpdates")
    asked.mock(return_value=bad(429, "Too Many Requests", retry_after=17))
    with pytest.raises(RateLimited) as caught:
        await read(connection)
    assert caught.value.retry_after_s == 17
    asked.mock(return_value=bad(429, "Too Many Requests", retry_after=10**400))
    with pytest.raises(RateLimited) as caught:
        await read(connection)
    assert caught.value.retry_after_s == 86_400


async def test_no_connection_is_told_apart(server: Any, connection: TelegramConnection) -> None:
    server.post("/getUpdates").mock(side_effect=httpx.ConnectError("refused"))
    with pytest.raises(Unreachable):
        await read(connection)
    server.post("/getUpdates").mock(side_effect=httpx.ReadError("reset"))
    with pytest.raises(PlatformUnavailable) as caught:
        await read(connection)
    assert not isinstance(caught.value, Unreachable)


async def test_login_is_of_the_account_s_bot(server: Any, connection: TelegramConnection) -> None:
    me = server.post("/getMe")
    me.mock(return_value=good({"id": BOT, "username": "Bot", "is_bot": True}))
    assert await connection.login(tell) == {"user_id": BOT, "username": "Bot"}
    me.mock(return_value=good({"id": 9, "username": "other", "is_bot": True}))
    with pytest.raises(LoginFailed, match="@other"):
        await connection.login(tell)
    me.mock(return_value=bad(401, "Unauthorized"))
    with pytest.raises(LoginFailed) as caught:
        await connection.login(tell)
    assert TOKEN not in str(caught.value)


def reply(talk: int | str = BOB) -> OutgoingReply:
    return OutgoingReply("k", "hi", NOW, conversation_id=str(talk))


async def test_send(server: Any, connection: TelegramConnection) -> None:
    route = server.post("/sendMessage")
    route.mock(return_value=good({"message_id": 8, "chat": chat()}))
    assert await connection.send(reply()) == f"{BOB}/8"
    assert json.loads(route.calls.last.request.content) == {"chat_id": str(BOB), "text": "hi"}
    route.mock(return_value=bad(403, "Forbidden: bot was blocked by the user"))
    with pytest.raises(RequestRejected, match="blocked"):
        await connection.send(reply())
    with pytest.raises(RequestRejected, match="may have been sent"):
        await connection.find_sent(reply())


async def test_a_group_that_moved_is_followed(server: Any, connection: TelegramConnection) -> None:
    moved = bad(400, "Bad Request: group chat was upgraded", migrate_to_chat_id=-1001)
    sent = good({"message_id": 1, "chat": chat(-1001, type="supergroup", title="Club")})
    server.post("/sendMessage").mock(side_effect=[moved, sent])
    assert await connection.send(reply(-7)) == "-1001/1"
