"""WordPress's REST API over httpx: requests out; objects in, or `sync.errors`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from sync.errors import (
    LoginExpired,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
    Unreachable,
)

REQUEST_TIMEOUT_S = 30.0
# WordPress itself lets a guest comment every 15 s (check_comment_flood) and names no time.
DEFAULT_RETRY_AFTER_S = 15.0
LONGEST_RETRY_AFTER_S = 3600.0
PAGE = 100  # per_page is at most that


@dataclass(frozen=True, slots=True)
class Page:
    """Objects as they came, and how many there are in all (X-WP-Total)."""

    items: list[dict[str, object]]
    total: int


class Client:
    """One user's requests. Every one of them ends: with an answer, an error, or its timeout.

    All methods raise `LoginExpired`, `RateLimited`, `PlatformUnavailable`, and `RequestRejected`
    for what the server refuses for good.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def me(self) -> dict[str, object]:
        """The user with what it may do."""
        answer = await self._call("GET", "/wp/v2/users/me", params={"context": "edit"})
        return one(answer)

    async def page(self, path: str, **params: object) -> Page:
        """Up to 100 objects of a collection, as its editors see them."""
        wanted = {"per_page": PAGE, "context": "edit", **params}
        answer = await self._call("GET", path, params={k: str(v) for k, v in wanted.items()})
        found = body(answer)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise nonsense(answer)
        total = answer.headers.get("X-WP-Total", "")
        return Page(found, int(total) if total.isdecimal() else len(found))

    async def post(self, path: str, content: Mapping[str, object]) -> dict[str, object]:
        return one(await self._call("POST", path, content=content))

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        content: Mapping[str, object] | None = None,
    ) -> httpx.Response:
        """`rest_route` works on each site, whatever its permalinks look like."""
        query = {"rest_route": path, **(params or {})}
        try:
            # httpx's timeouts are per read: a server that drips bytes is stopped by the outer one.
            async with asyncio.timeout(REQUEST_TIMEOUT_S + 10):
                response = await self._http.request(method, "/", params=query, json=content)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"can't reach the site: {error}") from error
        except (httpx.TimeoutException, TimeoutError):
            raise PlatformUnavailable(f"no answer to {method} {path} in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PlatformUnavailable(f"can't reach the site: {error}") from error
        if not response.is_success:
            raise failure(response)
        return response


def body(response: httpx.Response) -> object:
    try:
        found: object = json.loads(response.content)
    except ValueError:
        raise nonsense(response) from None
    return found


def one(response: httpx.Response) -> dict[str, object]:
    found = body(response)
    if not isinstance(found, dict):
        raise nonsense(response)
    return found


def nonsense(response: httpx.Response) -> PlatformUnavailable:
    return PlatformUnavailable(
        f"HTTP {response.status_code} without the JSON that was expected: is this the address of a"
        " WordPress site with its REST API switched on?"
    )


def failure(response: httpx.Response) -> PlatformError:
    """The error that an unsuccessful response stands for."""
    status, said = response.status_code, wordpress_error(response)
    code = str(said.get("code") or "")
    text = f"{code}: {said.get('message')}" if code else f"HTTP {status} from the site"
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return RateLimited(text, retry_after_s(response.headers.get("Retry-After", "")))
    if status == httpx.codes.UNAUTHORIZED:
        return LoginExpired(text)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or not code:
        return PlatformUnavailable(text)
    return RequestRejected(text, status, code)


def wordpress_error(response: httpx.Response) -> dict[str, object]:
    """The error object of a response, {} when it has none."""
    try:
        said = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def retry_after_s(header: str) -> float:
    """Retry-After in seconds or as a date (RFC 9110 10.2.3), else 15 s."""
    try:
        if header.strip().isdecimal():
            asked = float(header)
        else:
            asked = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return DEFAULT_RETRY_AFTER_S
    return min(max(asked, 1.0), LONGEST_RETRY_AFTER_S)
