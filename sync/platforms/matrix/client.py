"""The Matrix Client-Server API over httpx: requests out; validated answers, or `sync.errors`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from sync.errors import (
    LoginExpired,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms.matrix import wire

API = "/_matrix/client/v3"
REQUEST_TIMEOUT_S = 30.0
# A first /sync makes the server collect every room; history may come from other servers.
SLOW_REQUEST_TIMEOUT_S = 60.0
# Other servers may be away; the account's own goes on trying after we left.
JOIN_TIMEOUT_S = 10.0
DEFAULT_RETRY_AFTER_S = 5.0

SHOWN = ["m.room.message", "m.room.encrypted", "m.sticker", "m.room.redaction"]
NAMING = ["m.room.create", "m.room.name", "m.room.canonical_alias", "m.room.member"]
NOTHING = {"not_types": ["*"]}
LAZY = {"lazy_load_members": True, "include_redundant_members": True}
# How many of a room's latest events one /sync brings; the rest is read page by page.
TIMELINE_LIMIT = 20
SYNC_FILTER = {
    "presence": NOTHING,
    "account_data": NOTHING,
    "room": {
        "timeline": {"types": [*SHOWN, *NAMING], "limit": TIMELINE_LIMIT, **LAZY},
        "state": {"types": NAMING, **LAZY},
        "ephemeral": NOTHING,
        "account_data": NOTHING,
    },
}
HISTORY_FILTER = {"types": SHOWN, **LAZY}

Answer = TypeVar("Answer", bound=wire.Wire)


class MatrixClient:
    """One user's requests. Every one of them ends: with an answer, an error, or its timeout.

    All methods raise `LoginExpired`, `RateLimited`, `PlatformUnavailable`, and `RequestRejected`
    for what the server refuses for good.
    """

    def __init__(self, http: httpx.AsyncClient, token: str = "") -> None:
        self._http = http
        self.token = token

    async def login(self, username: str, password: str, device_id: str) -> wire.LoginAnswer:
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": username},
            "password": password,
            "initial_device_display_name": "Muster",
        }
        if device_id:  # the same device again: sends stay idempotent across logins
            body["device_id"] = device_id
        return await self.call(wire.LoginAnswer, "POST", "/login", body)

    async def whoami(self) -> wire.WhoAmI:
        return await self.call(wire.WhoAmI, "GET", "/account/whoami")

    async def sync(self, since: str, wait_s: float) -> wire.SyncAnswer:
        """What happened since the token `since` ("": everything); waits for news up to `wait_s`."""
        params = {"timeout": str(round(wait_s * 1000)), "filter": compact(SYNC_FILTER)}
        if since:
            params["since"] = since
        timeout_s = (REQUEST_TIMEOUT_S if since else SLOW_REQUEST_TIMEOUT_S) + wait_s
        return await self.call(wire.SyncAnswer, "GET", "/sync", params=params, timeout_s=timeout_s)

    async def history(
        self, room: str, start: str, stop: str | None, limit: int
    ) -> wire.MessagesAnswer:
        """Up to `limit` events before the token `start` ("": the newest), newest first, none older
        than `stop`."""
        params = {"dir": "b", "limit": str(limit), "filter": compact(HISTORY_FILTER)}
        if start:
            params["from"] = start
        if stop is not None:
            params["to"] = stop
        path = f"/rooms/{segment(room)}/messages"
        return await self.call(
            wire.MessagesAnswer, "GET", path, params=params, timeout_s=SLOW_REQUEST_TIMEOUT_S
        )

    async def event(self, room: str, event_id: str) -> wire.ContextAnswer:
        """One event as it is now: latest edit bundled, pruned if redacted; and its sender."""
        params = {"limit": "0", "filter": compact(LAZY)}
        path = f"/rooms/{segment(room)}/context/{segment(event_id)}"
        return await self.call(wire.ContextAnswer, "GET", path, params=params)

    async def room_name(self, room: str) -> wire.Name:
        return await self._state(wire.Name, room, "m.room.name")

    async def canonical_alias(self, room: str) -> wire.CanonicalAlias:
        return await self._state(wire.CanonicalAlias, room, "m.room.canonical_alias")

    async def joined_members(self, room: str) -> wire.JoinedMembers:
        return await self.call(wire.JoinedMembers, "GET", f"/rooms/{segment(room)}/joined_members")

    async def joined_rooms(self) -> wire.JoinedRooms:
        return await self.call(wire.JoinedRooms, "GET", "/joined_rooms")

    async def mark_read(self, room: str, event_id: str) -> None:
        """Move the account's own marker and the receipt that others see."""
        body = {"m.fully_read": event_id, "m.read": event_id}
        await self.call(wire.Nothing, "POST", f"/rooms/{segment(room)}/read_markers", body)

    async def join(self, room: str) -> None:
        path = f"/rooms/{segment(room)}/join"
        await self.call(wire.Joined, "POST", path, {}, timeout_s=JOIN_TIMEOUT_S)

    async def send(self, room: str, kind: str, content: Mapping[str, object], key: str) -> str:
        """Send an event and return its id; `key` (the transaction id) makes it idempotent."""
        path = f"/rooms/{segment(room)}/send/{segment(kind)}/{segment(key)}"
        return (await self.call(wire.Sent, "PUT", path, content)).event_id

    async def _state(self, model: type[Answer], room: str, kind: str) -> Answer:
        """The content of a state event; empty when the room has none, or one of no sense (which
        was refused when it was set)."""
        try:
            content = await self.call(
                wire.AnyContent, "GET", f"/rooms/{segment(room)}/state/{kind}/"
            )
            return model.model_validate(content.model_dump())
        except RequestRejected as error:
            if error.status == httpx.codes.NOT_FOUND:
                return model()
            raise
        except ValidationError:
            return model()

    async def call(
        self,
        model: type[Answer],
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Answer:
        """One request, its answer validated as `model`. `path` is below /_matrix/client/v3."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        timeout = httpx.Timeout(timeout_s, connect=10)
        try:
            # httpx's timeouts are per read: a server that drips bytes is stopped by the outer one.
            async with asyncio.timeout(timeout_s + 10):
                response = await self._http.request(
                    method, API + path, json=body, params=params, headers=headers, timeout=timeout
                )
        except (httpx.TimeoutException, TimeoutError):
            raise PlatformUnavailable(f"no answer to {method} {path} in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PlatformUnavailable(f"can't reach the homeserver: {error}") from error
        if not response.is_success:
            raise failure(response)
        try:
            # json.loads, unlike pydantic's own parser, lets a lone surrogate in one event pass.
            return model.model_validate(json.loads(response.content))
        except ValueError as error:  # pydantic's ValidationError is one, and so is bad JSON
            raise PlatformUnavailable(f"nonsense in answer to {method} {path}: {error}") from error


def failure(response: httpx.Response) -> PlatformError:
    """The error that an unsuccessful response stands for."""
    status, said = response.status_code, matrix_error(response)
    code, message = said.get("errcode", ""), said.get("error", "")
    text = f"{code}: {message}" if code else f"HTTP {status} from the homeserver"
    if status == httpx.codes.TOO_MANY_REQUESTS or code == "M_LIMIT_EXCEEDED":
        return RateLimited(text, retry_after_s(response, said))
    if code in {"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"} or status == httpx.codes.UNAUTHORIZED:
        return LoginExpired(text)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return PlatformUnavailable(text)
    if code or status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return RequestRejected(text, status, str(code))
    return PlatformUnavailable(f"{text}: is this the address of a Matrix homeserver?")


def matrix_error(response: httpx.Response) -> dict[str, object]:
    """The error object of a response, {} when it has none."""
    try:
        said = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def retry_after_s(response: httpx.Response, said: Mapping[str, object]) -> float:
    """How long a 429 asks us to wait: `retry_after_ms` or Retry-After, else 5 s."""
    asked_ms = said.get("retry_after_ms")
    if isinstance(asked_ms, int | float) and asked_ms >= 0:
        return asked_ms / 1000
    header = response.headers.get("Retry-After", "")
    return float(header) if header.isdecimal() else DEFAULT_RETRY_AFTER_S


def segment(text: str) -> str:
    """`text` as one segment of a path."""
    return quote(text, safe="")


def compact(value: Mapping[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))
