"""What JSON-over-HTTPS adapters share: requests that end, answers of bounded size, plain words.

No error quotes an address: tokens may be in it.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sync.errors import PlatformUnavailable, Unreachable
from sync.types import Refused

REQUEST_TIMEOUT_S = 30.0
LARGEST_ANSWER = 16 * 1024 * 1024  # bytes
LONGEST_SHOWN_ID = 500


class Wire(BaseModel):
    """What a platform sends: frozen; fields that we don't read are ignored; an error never quotes
    what it was given."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )


class Secrets(BaseModel):
    """Credentials: nothing that we don't know, and no value in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def as_text(value: object) -> object:
    """Numbers where an id was expected are that id."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def or_empty(value: object) -> object:
    """For what only decorates: anything but a text is as good as none."""
    return value if isinstance(value, str) else ""


Id = Annotated[str, BeforeValidator(as_text), Field(min_length=1)]
Decoration = Annotated[str, BeforeValidator(or_empty)]


async def call(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    what: str,
    timeout_s: float = REQUEST_TIMEOUT_S,
    **request: Any,
) -> httpx.Response:
    """One request, whatever its status. `what` names it in errors. Raises `PlatformUnavailable`,
    `Unreachable` when nothing got there."""
    try:
        # httpx's timeouts are per read: a server that drips bytes is stopped by the outer one.
        async with asyncio.timeout(timeout_s + 10):
            timeout = httpx.Timeout(timeout_s, connect=10)
            async with http.stream(method, path, timeout=timeout, **request) as response:
                content = await _content(response, what)
                return httpx.Response(
                    response.status_code, headers=_plain(response.headers), content=content
                )
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unreachable(f"can't reach the platform: {type(error).__name__}") from None
    except (httpx.TimeoutException, TimeoutError):
        raise PlatformUnavailable(f"no answer to {what} in time") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise PlatformUnavailable(f"the connection broke: {type(error).__name__}") from None


async def _content(response: httpx.Response, what: str) -> bytes:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > LARGEST_ANSWER:
            raise PlatformUnavailable(f"the answer to {what} is larger than {LARGEST_ANSWER} bytes")
    return bytes(content)


def _plain(headers: httpx.Headers) -> dict[str, str]:
    """Without those that speak of the transfer: the content is decoded already."""
    about_transfer = ("content-encoding", "transfer-encoding", "content-length")
    return {name: value for name, value in headers.items() if name not in about_transfer}


def json_object(response: httpx.Response) -> dict[str, Any]:
    """The answer's JSON object, {} when it is none."""
    try:
        said = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def header_s(response: httpx.Response, default_s: float) -> float:
    """Retry-After in seconds."""
    given = response.headers.get("retry-after", "")
    return float(given) if given.isdecimal() and len(given) < 10 else default_s


def moment(seconds: float) -> datetime:
    """A time of the platform. Raises `ValueError` when there is no such time."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError):
        raise ValueError("a time that is none") from None


def refused(
    raw: object, error: ValidationError | str, kind: str = "message", external_id: object = ""
) -> Refused:
    """`raw` as a dead letter [S6], with an error that people can read."""
    shown = as_text(external_id)
    return Refused(
        kind=kind,
        external_id=shown[:LONGEST_SHOWN_ID] if isinstance(shown, str) else "",
        raw=json.dumps(raw),
        error=error if isinstance(error, str) else readable(error),
    )


def readable(error: ValidationError) -> str:
    """The problems of `error`, each with its place and without the values."""
    problems = error.errors(include_url=False, include_input=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'it'}: {problem['msg']}"
        for problem in problems
    )
