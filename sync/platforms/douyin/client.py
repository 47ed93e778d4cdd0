"""The Douyin Open Platform over httpx: validated answers, or `sync.errors`.

HTTP says 200 to nearly everything; `data.error_code` (or `extra`, or `err_no`) says how it went.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import ValidationError

from sync.errors import (
    LoginExpired,
    LoginFailed,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms import rest
from sync.platforms.douyin import wire

AUTHORIZE = "/platform/oauth/connect/"
SCOPES = "user_info,video.list.bind,item.comment,im.direct_message"
PAGE = 20  # the most that lists take

# developer.open-douyin.com, "状态码" and the pages of the methods
NO_TOKEN = {10008, 2190002, 2190008, 28001003, 28001008}  # access token wrong or run out
CONSENT_OVER = {10007, 10010}  # code, or refresh token
RENEWED_TOO_OFTEN = 10020
NOT_ALLOWED = {10002, 10003, 10004, 10013, 10014, 10015}
BUSY = {10001, 2100004, 2111002, 28001005, 28001006}
QUOTA = {2190001, 28003017}
QUOTA_RETRY_S = 600.0
LOGIN_METHODS = "/oauth/"

Answer = TypeVar("Answer", bound=rest.Wire)


class ConsentOver(LoginFailed):
    """The owner has to give consent anew."""


class DouyinClient:
    """One account's requests. All methods raise `LoginExpired`, `LoginFailed` (below /oauth/),
    `RateLimited`, `PlatformUnavailable`, and `RequestRejected` for what Douyin refuses for good."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.token = ""
        self.open_id = ""

    def authorize_url(self, client_key: str, redirect_uri: str, state: str) -> str:
        """Where the account's owner gives consent; leads back to `redirect_uri` with a code."""
        query = {
            "client_key": client_key,
            "response_type": "code",
            "scope": SCOPES,
            "redirect_uri": redirect_uri,
            "state": state,
        }
        return f"{str(self._http.base_url).rstrip('/')}{AUTHORIZE}?{urlencode(query)}"

    async def token_for_code(self, client_key: str, client_secret: str, code: str) -> wire.Token:
        form = {
            "client_key": client_key,
            "client_secret": client_secret,
            "code": code,
            "grant_type": "authorization_code",
        }
        return await self._call(wire.Token, "POST", "/oauth/access_token/", data=form)

    async def refreshed(self, client_key: str, refresh_token: str) -> wire.Token:
        """Another access token, for 15 days; the refresh token stays, and so does its end."""
        form = {
            "client_key": client_key,
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
        }
        return await self._call(wire.Token, "POST", "/oauth/refresh_token/", data=form)

    async def renewed(self, client_key: str, refresh_token: str) -> wire.Renewed:
        """Another refresh token, for 30 days; five times at most. Raises `RequestRejected` then."""
        form = {"client_key": client_key, "refresh_token": refresh_token}
        return await self._call(wire.Renewed, "POST", "/oauth/renew_refresh_token/", data=form)

    async def videos(self, cursor: str) -> wire.Page:
        return await self._page("/api/douyin/v1/video/video_list/", cursor)

    async def comments(self, item_id: str, cursor: str) -> wire.Page:
        return await self._page("/item/comment/list/", cursor, item_id=item_id, sort_type="time")

    async def replies(self, item_id: str, comment_id: str, cursor: str) -> wire.Page:
        return await self._page(
            "/item/comment/reply/list/",
            cursor,
            item_id=item_id,
            comment_id=comment_id,
            sort_type="time",
        )

    async def reply(self, item_id: str, comment_id: str, content: str) -> str:
        """Below a comment, or below the work itself if `comment_id` is "". The comment's id."""
        body = {"item_id": item_id, "content": content}
        if comment_id:
            body["comment_id"] = comment_id
        said = await self._call(wire.Replied, "POST", "/item/comment/reply/", json=body)
        return said.comment_id

    async def send(self, talk: str, to_user_id: str, answers: str, text: str) -> str:
        """A private message, in answer to one of theirs. The message's id."""
        body = {
            "msg_id": answers,
            "conversation_id": talk,
            "to_user_id": to_user_id,
            "scene": "im_reply_msg",
            "content": {"msg_type": 1, "text": {"text": text}},
        }
        return (await self._call(wire.SentMessage, "POST", "/im/send/msg/", json=body)).msg_id

    async def _page(self, path: str, cursor: str, **parameters: str) -> wire.Page:
        params = {"cursor": cursor, "count": str(PAGE), **parameters}
        return await self._call(wire.Page, "GET", path, params=params)

    async def _call(
        self,
        model: type[Answer],
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        **request: Any,
    ) -> Answer:
        is_login = path.startswith(LOGIN_METHODS)
        headers = {} if is_login else {"access-token": self.token}
        asked = dict(params or {}) if is_login else {"open_id": self.open_id, **(params or {})}
        response = await rest.call(
            self._http, method, path, what=path, headers=headers, params=asked, **request
        )
        said = rest.json_object(response)
        data = said.get("data")
        data = data if isinstance(data, dict) else {}
        code, text = outcome(said, data)
        if code or not response.is_success or not said:
            raise failure(response, code, f"{path}: {text}", is_login=is_login)
        try:
            return model.model_validate({**said, **data})
        except ValidationError as error:
            why = rest.readable(error)
            raise PlatformUnavailable(f"nonsense in answer to {path}: {why}") from None


def outcome(said: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[int, str]:
    """The error code, 0 when there is none, and what it says."""
    extra = said.get("extra")
    for place in (data, extra if isinstance(extra, dict) else {}):
        try:
            one = wire.Said.model_validate(place)
        except ValidationError:
            continue
        if one.error_code:
            return one.error_code, one.description
    number = said.get("err_no")
    if str(number or 0).isdecimal() and int(str(number or 0)):
        return int(str(number)), str(said.get("err_msg") or "")
    return 0, ""


def failure(response: httpx.Response, code: int, text: str, *, is_login: bool) -> PlatformError:
    """The error that an unsuccessful answer stands for."""
    status = response.status_code
    said = f"{text} (error {code})" if code else f"{text}HTTP {status}"
    if code in CONSENT_OVER:
        return ConsentOver(f"the consent has run out: {said}")
    if code in NO_TOKEN:
        return LoginExpired(said)
    if code in QUOTA or status == httpx.codes.TOO_MANY_REQUESTS:
        return RateLimited(said, rest.header_s(response, QUOTA_RETRY_S))
    if code in BUSY or not code:
        return PlatformUnavailable(said)
    if is_login and code in NOT_ALLOWED:
        return LoginFailed(said)
    return RequestRejected(said, status, str(code))
