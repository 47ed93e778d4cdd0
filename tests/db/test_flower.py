"""The way to Flower, against a real HTTP server on a Unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.test import AsyncClient

from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

OURS = {"Sec-Fetch-Site": "same-origin"}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked; `…/move` redirects, `…/stream` sends two parts."""
    if scope["type"] == "lifespan":
        return
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    seen = {
        "method": scope["method"],
        "path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": headers,
        "body": body.decode(),
    }
    given = [
        (b"content-type", b"application/json"),
        (b"set-cookie", b"muster_session=stolen"),
        (b"access-control-allow-origin", b"*"),
        (b"x-kept", b"yes"),
    ]
    moved = scope["path"] == "/flower/move"
    if moved:
        given.append((b"location", b"http://flower/flower/tasks?limit=5"))
    await send({"type": "http.response.start", "status": 302 if moved else 200, "headers": given})
    if scope["path"] == "/flower/stream":
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
    else:
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


@pytest.fixture
def socket(tmp_path: Path, settings: Any) -> Path:
    """Where the site believes Flower to be. Nobody listens there yet."""
    path = tmp_path / "flower.sock"
    settings.MUSTER = SimpleNamespace(flower_socket=path, home=tmp_path)
    return path


@pytest.fixture
def ask(socket: Path) -> Callable[..., Any]:
    """Asks for an address of the site while the echo server runs."""

    async def served(run: Callable[[], Any]) -> Any:
        config = uvicorn.Config(echo, uds=str(socket), log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.ensure_future(server._serve())
        await until(lambda: server.started)
        try:
            return await run()
        finally:
            server.should_exit = True
            await task

    def ask(user: User | None, method: str, path: str, headers: Any = None, **given: Any) -> Any:
        return asyncio.run(served(lambda: request(user, method, path, headers, **given)))

    return ask


async def request(
    user: User | None, method: str, path: str, headers: Any = None, **given: Any
) -> Any:
    """One request with its body read: (response, body)."""
    client = AsyncClient()
    if user:
        await client.aforce_login(user)
    response = await getattr(client, method)(path, headers=headers or {}, **given)
    await sync_to_async(connections.close_all)()  # of the thread that asyncio.run leaves behind
    if not response.streaming:
        return response, response.content
    parts: AsyncIterator[bytes] = response.streaming_content
    return response, b"".join([part async for part in parts])


def test_a_stranger_is_led_to_the_login(ask: Callable[..., Any]) -> None:
    response, _body = ask(None, "get", "/flower/tasks?limit=1")
    assert response.status_code == 302
    assert response["Location"] == "/admin/login/?next=/flower/tasks%3Flimit%3D1"


def test_a_user_without_the_right_is_refused(
    ask: Callable[..., Any], make_user: Callable[..., User]
) -> None:
    response, _body = ask(make_user("nobody", is_staff=True), "get", "/flower/")
    assert response.status_code == 403


def test_path_and_query_arrive_as_they_were_sent(ask: Callable[..., Any], viewer: User) -> None:
    response, body = ask(viewer, "get", "/flower/worker/celery@worker-1?a=1&b=%2B&a=2")
    seen = json.loads(body)
    assert response.status_code == 200
    assert seen["path"] == "/flower/worker/celery@worker-1"
    assert seen["query"] == "a=1&b=%2B&a=2"


def test_our_cookies_and_tokens_stay_here_and_its_cookies_there(
    ask: Callable[..., Any], viewer: User
) -> None:
    sent = {"Authorization": "Token secret", "Connection": "close, X-Hop", "Accept": "text/html"}
    response, body = ask(viewer, "get", "/flower/", sent)
    headers = json.loads(body)["headers"]
    assert "cookie" not in headers
    assert "authorization" not in headers
    assert headers["accept"] == "text/html"
    assert response["X-Kept"] == "yes"
    assert "stolen" not in str(response.cookies)
    assert not response.has_header("Set-Cookie")
    assert not response.has_header("Access-Control-Allow-Origin")


def test_a_redirect_stays_on_our_host(ask: Callable[..., Any], viewer: User) -> None:
    response, _body = ask(viewer, "get", "/flower/move")
    assert (response.status_code, response["Location"]) == (302, "/flower/tasks?limit=5")


def test_bodies_are_streamed(ask: Callable[..., Any], viewer: User) -> None:
    response, body = ask(viewer, "get", "/flower/stream")
    assert response.streaming
    assert body == b"one two"


def test_changing_something_needs_the_right_to_operate(
    ask: Callable[..., Any], viewer: User, operator: User
) -> None:
    address = "/flower/api/worker/shutdown/w"
    assert ask(viewer, "post", address, OURS)[0].status_code == 403
    response, body = ask(operator, "post", address, OURS, data={"a": "1"})
    assert response.status_code == 200
    assert json.loads(body)["method"] == "POST"
    assert 'name="a"' in json.loads(body)["body"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://testserver"}, 200),
        ({"Referer": "http://testserver/flower/workers"}, 200),
        ({"Referer": "http://testserver.evil.example/"}, 403),
        ({"Origin": "https://evil.example", "Referer": "http://testserver/"}, 403),
    ],
)
def test_only_our_own_pages_change_something(
    ask: Callable[..., Any], operator: User, headers: dict[str, str], status: int
) -> None:
    assert ask(operator, "post", "/flower/api/x", headers)[0].status_code == status


def test_when_flower_is_down_the_page_says_so(socket: Path, viewer: User) -> None:
    response, body = asyncio.run(request(viewer, "get", "/flower/"))
    assert response.status_code == 502
    assert b"Flower does not answer" in body
