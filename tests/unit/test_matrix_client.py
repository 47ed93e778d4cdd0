"""What the adapter makes of a homeserver's answers, good and bad; over a mocked transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import respx

from sync.errors import (
    CursorInvalid,
    LoginExpired,
    LoginFailed,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms.matrix import platform
from sync.platforms.matrix.adapter import MatrixConnection
from sync.platforms.matrix.place import Invitation, Place
from sync.types import AccountRef
from tests.contract.suite.reading import tell_nobody

URL = "https://matrix.a.org"
ME = "@me:a.org"
ROOM = "!room:a.org"
SESSION: dict[str, object] = {"access_token": "t0ken", "user_id": ME, "device_id": "D"}

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server() -> Any:
    with respx.mock(base_url=f"{URL}/_matrix/client/v3", assert_all_called=False) as mock:
        yield mock


@pytest.fixture
async def connection(server: Any, anyio_backend: str) -> AsyncIterator[MatrixConnection]:
    credentials: dict[str, object] = {"username": "me", "password": "hush-hush"}
    account = AccountRef(1, "matrix", ME, f"{URL}/", credentials, SESSION)
    async with platform.connect(account) as opened:
        yield opened


def refusing(status: int, code: str = "", **more: object) -> httpx.Response:
    body = {"errcode": code, "error": "because", **more}
    return httpx.Response(status, json=body if code else more)


async def read(connection: MatrixConnection, cursor: str = "") -> list[Any]:
    return [batch async for batch in connection.read(cursor, 0)]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusing(401, "M_UNKNOWN_TOKEN"), LoginExpired),
        (refusing(401, "M_UNKNOWN_TOKEN", soft_logout=True), LoginExpired),
        (refusing(401), LoginExpired),
        (refusing(500, "M_UNKNOWN"), PlatformUnavailable),
        (refusing(502), PlatformUnavailable),
        (httpx.Response(504, text="<html>"), PlatformUnavailable),
        (httpx.Response(404, text="<html>"), PlatformUnavailable),
        (httpx.Response(302, headers={"Location": "/x"}), PlatformUnavailable),
        (httpx.Response(200, text="{"), PlatformUnavailable),
        (httpx.Response(200, text=""), PlatformUnavailable),
        (httpx.Response(200, content=b"\xff\xfe"), PlatformUnavailable),
        (httpx.Response(200, json=[]), PlatformUnavailable),
        (httpx.Response(200, json={"rooms": 7, "next_batch": "s"}), PlatformUnavailable),
        (httpx.ConnectError("refused"), PlatformUnavailable),
        (httpx.ConnectTimeout("slow"), PlatformUnavailable),
        (httpx.ReadTimeout("slow"), PlatformUnavailable),
        (httpx.RemoteProtocolError("cut"), PlatformUnavailable),
        (refusing(403, "M_FORBIDDEN"), RequestRejected),
    ],
)
async def test_bad_answers(
    connection: MatrixConnection, server: Any, answer: Any, error: type[Exception]
) -> None:
    server.get("/sync").mock(side_effect=[answer])
    with pytest.raises(error):
        await read(connection)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (refusing(429, "M_LIMIT_EXCEEDED", retry_after_ms=2500), 2.5),
        (refusing(429, "M_LIMIT_EXCEEDED"), 5),
        (refusing(429, "M_LIMIT_EXCEEDED", retry_after_ms="soon"), 5),
        (httpx.Response(429, headers={"Retry-After": "7"}, text="slow down"), 7),
    ],
)
async def test_rate_limit(
    connection: MatrixConnection, server: Any, answer: httpx.Response, seconds: float
) -> None:
    server.get("/sync").mock(return_value=answer)
    with pytest.raises(RateLimited) as caught:
        await read(connection)
    assert caught.value.retry_after_s == seconds


async def test_unknown_since_is_an_invalid_cursor(
    connection: MatrixConnection, server: Any
) -> None:
    server.get("/sync").mock(return_value=refusing(400, "M_UNKNOWN"))
    with pytest.raises(CursorInvalid):
        await read(connection, Place(since="s1").text())
    with pytest.raises(RequestRejected):
        await read(connection)


@pytest.mark.parametrize("code", ["M_FORBIDDEN", "M_USER_DEACTIVATED"])
async def test_login_refused(connection: MatrixConnection, server: Any, code: str) -> None:
    server.post("/login").mock(return_value=refusing(403, code))
    with pytest.raises(LoginFailed, match=code):
        await connection.login(tell_nobody)


async def test_login_asks_for_the_same_device_and_without_the_old_token(
    connection: MatrixConnection, server: Any
) -> None:
    route = server.post("/login").mock(return_value=httpx.Response(200, json=SESSION))
    assert await connection.login(tell_nobody) == SESSION
    request = route.calls.last.request
    assert "Authorization" not in request.headers
    assert b'"device_id":"D"' in request.content.replace(b'": "', b'":"')


async def test_login_as_somebody_else_is_refused(connection: MatrixConnection, server: Any) -> None:
    other = {**SESSION, "user_id": "@other:a.org"}
    server.post("/login").mock(return_value=httpx.Response(200, json=other))
    with pytest.raises(LoginFailed, match="@other"):
        await connection.login(tell_nobody)
    assert connection.session == SESSION


@pytest.mark.parametrize("answer", [{"name": 7}, {}, {"name": "x", "more": [1]}])
async def test_name_of_no_sense_holds_nothing_up(
    connection: MatrixConnection, server: Any, answer: object
) -> None:
    common = {"sender": "@ana:a.org", "origin_server_ts": 1}
    text = {"msgtype": "m.text", "body": "hello"}
    said = {**common, "event_id": "$1", "type": "m.room.message", "content": text}
    kind = {"type": "m.room.name", "state_key": ""}
    renamed = {**common, **kind, "event_id": "$0", "content": {"name": 7}}
    summary = {"m.joined_member_count": 2}
    room = {"timeline": {"events": [renamed, said]}, "summary": summary}
    news = {"next_batch": "s2", "rooms": {"join": {ROOM: room}}}
    server.get("/sync").mock(return_value=httpx.Response(200, json=news))
    server.get(path__regex="/state/m.room.name/").mock(
        return_value=httpx.Response(200, json=answer)
    )
    server.get(path__regex="canonical_alias/").mock(return_value=refusing(404, "M_NOT_FOUND"))
    server.get(path__regex="/joined_members").mock(
        return_value=httpx.Response(200, json={"joined": {"@ana:a.org": {"display_name": 7}}})
    )
    (batch,) = await read(connection, Place(since="s1").text())
    assert [type(record).__name__ for record in batch.records] == [
        *("ConversationRecord", "MessageRecord")
    ]
    assert [refused.external_id for refused in batch.refused] == ["$0"]


class TestInvitations:
    """Those that can't be followed now are kept in the cursor, and do not hold messages up."""

    def news(self, server: Any) -> None:
        answer = {"next_batch": "s2", "rooms": {"invite": {ROOM: {}}}}
        later = {"next_batch": "s2"}
        answers = [httpx.Response(200, json=answer), httpx.Response(200, json=later)]
        server.get("/sync").mock(side_effect=answers)

    @pytest.mark.parametrize(
        ("answer", "tries"),
        [(refusing(502), 1), (httpx.ReadTimeout("x"), 1), (refusing(429, "M_LIMIT_EXCEEDED"), 0)],
    )
    async def test_tried_again(
        self, connection: MatrixConnection, server: Any, answer: Any, tries: int
    ) -> None:
        self.news(server)
        server.post(path__regex="/join$").mock(side_effect=[answer])
        batches = await read(connection, Place(since="s1").text())
        kept = (Invitation(room=ROOM, tries=tries),)
        assert Place.parse(batches[-1].cursor).invitations == kept

    async def test_given_up_in_sight(self, connection: MatrixConnection, server: Any) -> None:
        server.get("/sync").mock(return_value=httpx.Response(200, json={"next_batch": "s2"}))
        server.post(path__regex="/join$").mock(return_value=refusing(502))
        place = Place(since="s1", invitations=(Invitation(room=ROOM, tries=9),))
        (batch,) = await read(connection, place.text())
        assert [refused.kind for refused in batch.refused] == ["invitation"]
        assert Place.parse(batch.cursor).invitations == ()


def test_secrets_are_not_shown() -> None:
    account = AccountRef(1, "matrix", ME, URL, {"password": "hush-hush"}, SESSION)
    assert "hush-hush" not in repr(account)
    assert "t0ken" not in repr(account)
