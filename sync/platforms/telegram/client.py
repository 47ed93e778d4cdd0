"""The Bot API over httpx: validated answers, or `sync.errors`. The token is part of every address,
so no error quotes one."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from sync.errors import (
    LoginExpired,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms import rest
from sync.platforms.telegram import wire
from sync.platforms.telegram.events import ALLOWED_UPDATES

DEFAULT_RETRY_AFTER_S = 5.0
MOST_UPDATES = 100

Answer = TypeVar("Answer", bound=rest.Wire)


class Moved(RequestRejected):
    """The group became a supergroup, with another id."""

    def __init__(self, message: str, chat_id: int) -> None:
        self.chat_id = chat_id
        super().__init__(message, 400, "migrated")


class TelegramClient:
    """One bot's requests. All methods raise `LoginExpired` (the token is not valid), `RateLimited`,
    `PlatformUnavailable`, and `RequestRejected` for what Telegram refuses for good."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self._http, self._token = http, token

    async def me(self) -> wire.Me:
        return self._read(wire.Me, await self._call("getMe"), "getMe")

    async def webhook_info(self) -> wire.WebhookInfo:
        said = await self._call("getWebhookInfo")
        return self._read(wire.WebhookInfo, said, "getWebhookInfo")

    async def updates(self, after: int | None, wait_s: float) -> list[Any]:
        """Up to 100 updates after that one, which Telegram then forgets; waits for the first."""
        parameters: dict[str, Any] = {
            "limit": MOST_UPDATES,
            "timeout": int(wait_s),
            "allowed_updates": list(ALLOWED_UPDATES),
        }
        if after is not None:
            parameters["offset"] = after + 1
        timeout_s = rest.REQUEST_TIMEOUT_S + wait_s
        said = await self._call("getUpdates", parameters, timeout_s=timeout_s)
        if not isinstance(said, list):
            raise PlatformUnavailable("nonsense in answer to getUpdates")
        return said

    async def send(self, chat_id: str, text: str) -> wire.Sent:
        """Raises `Moved` too."""
        said = await self._call("sendMessage", {"chat_id": chat_id, "text": text})
        return self._read(wire.Sent, said, "sendMessage")

    async def _call(
        self,
        method: str,
        parameters: dict[str, Any] | None = None,
        timeout_s: float = rest.REQUEST_TIMEOUT_S,
    ) -> Any:
        path = f"/bot{self._token}/{method}"
        response = await rest.call(
            self._http, "POST", path, what=method, timeout_s=timeout_s, json=parameters or {}
        )
        said = rest.json_object(response)
        if response.is_success and said.get("ok") is True:
            return said.get("result")
        raise failure(response, said, method)

    @staticmethod
    def _read(model: type[Answer], said: Any, method: str) -> Answer:
        try:
            return model.model_validate(said)
        except ValidationError as error:
            text = rest.readable(error)
            raise PlatformUnavailable(f"nonsense in answer to {method}: {text}") from None


def failure(response: httpx.Response, said: dict[str, Any], method: str) -> PlatformError:
    """The error that an unsuccessful answer stands for."""
    status = response.status_code
    description = said.get("description")
    more = said.get("parameters")
    more = more if isinstance(more, dict) else {}
    if not isinstance(description, str):
        return PlatformUnavailable(f"HTTP {status} in answer to {method}: is this a Bot API?")
    text = f"{method}: {description}"
    if status == httpx.codes.TOO_MANY_REQUESTS:
        asked = more.get("retry_after")
        if not isinstance(asked, int | float) or asked < 0:
            asked = rest.header_s(response, DEFAULT_RETRY_AFTER_S)
        return RateLimited(text, asked)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.NOT_FOUND):  # 404: no bot has this token
        return LoginExpired(text)
    if status == httpx.codes.CONFLICT:
        return RequestRejected(_conflict(description), status, "conflict")
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return PlatformUnavailable(text)
    moved_to = more.get("migrate_to_chat_id")
    if isinstance(moved_to, int):
        return Moved(text, moved_to)
    return RequestRejected(text, status, str(said.get("error_code", "")))


def _conflict(description: str) -> str:
    if "webhook" in description.lower():
        advice = (
            "a webhook is set for this bot, so it can't be polled: give the account the "
            "webhook_secret that was set with it, or delete the webhook (deleteWebhook)"
        )
    else:
        advice = "somebody else polls this bot with the same token: only one may"
    return f"Telegram: {description} - {advice}"
