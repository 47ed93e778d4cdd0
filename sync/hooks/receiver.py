"""The address that platforms push to: an ASGI application of its own, in front of Django's [S13].

Nothing of Django's middleware is wanted here: no session, no CSRF token, no cookie; the signature
is the right. Every wait has an end, so that a platform hears from us within its time limit (Douyin
disconnects after 5 s) also when the database hangs: a 503 then, and the platform sends it again.

Whoever asks for an account that is not there, or has no secret of it, reads the same 401.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import parse_qsl

from django.db import Error as DatabaseError
from django.db import close_old_connections
from django.utils import timezone

from lifecycle.api.event_stream import Receive, Scope, Send
from sync.hooks.counting import Counter
from sync.hooks.take import Outcome, Taken, take
from sync.hooks.throttle import Full, Places, Throttle
from sync.platforms.base import HookRequest

log = logging.getLogger(__name__)

ADDRESS = re.compile(r"/api/v1/hooks/([a-z0-9_-]{1,50})/([0-9]{1,18})")
LARGEST_BODY = 3 * 1024 * 1024  # bytes; WhatsApp's are the largest, up to 3 MB
SMALL_BODY = 64 * 1024  # bytes; uvicorn holds as many of any connection
LARGE_AT_ONCE = 64  # bodies beyond that: 192 MB are held of them in all
LONGEST_LENGTH = 15  # digits
BODY_WITHIN_S = 10.0
ANSWER_WITHIN_S = 3.5  # of Douyin's 5 s
THREADS = 4  # and as many connections to the database, of the process's 8
THROTTLE = {"rate": 100.0, "burst": 500.0, "at_once": 64, "in_all": 512}
RETRY_AFTER_S = {429: 1, 503: 5}

# The one shape of errors, as `crm.api` gives it.
REFUSALS: dict[Outcome, tuple[int, str, str]] = {
    Outcome.REJECTED: (401, "bad_signature", "Nobody with this account's secret has sent this."),
    Outcome.MALFORMED: (400, "malformed", "This is not what the platform's documents say."),
    Outcome.TOO_LARGE: (413, "too_large", f"More than {LARGEST_BODY} bytes."),
    Outcome.THROTTLED: (429, "throttled", "Too many requests for this account."),
    Outcome.UNAVAILABLE: (503, "unavailable", "It was not stored: send it again."),
    Outcome.MISSED: (503, "unavailable", "The account is disabled: it was not stored."),
}
METHOD_NOT_ALLOWED = (405, "method_not_allowed", "POST, or GET for a handshake.")
TOO_SLOW = (408, "too_slow", f"The body did not come within {BODY_WITHIN_S:.0f} s.")
UNEXPECTED = (500, "error", "A server error occurred; it was not stored.")


class TooLarge(Exception):
    """The body is larger than what is read of it."""


class Disconnected(Exception):
    """The client went before it had sent its body."""


class Receiver:
    """Answers the addresses `is_for` says yes to. Lives on the web process's loop."""

    def __init__(self, counter: Counter | None = None, throttle: Throttle | None = None) -> None:
        self.counter = counter or Counter()
        self._throttle = throttle or Throttle(**THROTTLE)  # type: ignore[arg-type]
        self._large = Places(LARGE_AT_ONCE)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="muster-hooks")

    @staticmethod
    def is_for(scope: Scope) -> bool:
        return scope["type"] == "http" and ADDRESS.fullmatch(scope["path"]) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as held:
            await self._receive(scope, receive, send, lambda: held.enter_context(self._large.one()))

    async def _receive(
        self, scope: Scope, receive: Receive, send: Send, take_large: Callable[[], None]
    ) -> None:
        address = ADDRESS.fullmatch(scope["path"])
        assert address is not None  # noqa: S101 - `is_for`
        platform, account_id = address[1], int(address[2])
        if scope["method"] not in ("GET", "POST"):
            await _refuse(send, METHOD_NOT_ALLOWED, {"allow": "GET, POST"})
            return
        try:
            body = await _body(scope, receive, take_large)
        except TooLarge:
            taken = Taken(Outcome.TOO_LARGE, account_id)
        except TimeoutError:
            await _refuse(send, TOO_SLOW, {"connection": "close"})
            return
        except Disconnected:
            return
        except Full:
            self.counter.add(Taken(Outcome.UNAVAILABLE, account_id), timezone.now())
            await _refuse(send, REFUSALS[Outcome.UNAVAILABLE], {"connection": "close"})
            return
        else:
            try:
                taken = await self._take(platform, account_id, _request(scope, body))
            except Exception:  # a bug must not end the connection without an answer
                log.exception("a webhook request failed", extra={"account_id": account_id})
                await _refuse(send, UNEXPECTED)
                return
        self.counter.add(taken, timezone.now())
        await _answer(send, taken)

    async def _take(self, platform: str, account_id: int, request: HookRequest) -> Taken:
        full = self._throttle.enter(account_id, time.monotonic())
        if full == "account":
            return Taken(Outcome.THROTTLED, account_id)
        if full:
            return Taken(Outcome.UNAVAILABLE, account_id)
        taken = Taken(Outcome.UNAVAILABLE, account_id)
        try:
            call = asyncio.get_running_loop().run_in_executor(
                self._threads, _take_and_close, platform, account_id, request
            )
            # When the time is over it may still be stored: then what is sent again is a repeat.
            taken = await asyncio.wait_for(call, ANSWER_WITHIN_S)
        except (DatabaseError, TimeoutError) as error:
            log.warning("a webhook delivery was not taken: %r", error)
        finally:
            self._throttle.leave(account_id, counts=taken.outcome is not Outcome.REJECTED)
        return taken


def _take_and_close(platform: str, account_id: int, request: HookRequest) -> Taken:
    try:
        return take(platform, account_id, request, timezone.now())
    finally:
        close_old_connections()


async def _body(scope: Scope, receive: Receive, take_large: Callable[[], None]) -> bytes:
    """The raw body, never more than fits. Raises `TooLarge`, `TimeoutError`, `Disconnected`, and
    `Full` where `take_large`, called once it is no longer small, does."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    if length.isdigit() and (len(length) > LONGEST_LENGTH or int(length) > LARGEST_BODY):
        raise TooLarge
    parts: list[bytes] = []
    size = 0
    async with asyncio.timeout(BODY_WITHIN_S):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part: bytes = message.get("body", b"")
            if size <= SMALL_BODY < size + len(part):
                take_large()
            size += len(part)
            if size > LARGEST_BODY:
                raise TooLarge
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)


def _request(scope: Scope, body: bytes) -> HookRequest:
    return HookRequest(
        method=scope["method"],
        headers={
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        },
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        body=body,
    )


async def _answer(send: Send, taken: Taken) -> None:
    if taken.outcome in REFUSALS:
        await _refuse(send, REFUSALS[taken.outcome])
    elif taken.outcome is Outcome.ANSWERED:
        is_json = taken.body.startswith(b"{")
        kind = "application/json" if is_json else "text/plain; charset=utf-8"
        await _send(send, 200, taken.body, {"content-type": kind})
    else:
        await _send(send, 200, b'{"success": true}', {"content-type": "application/json"})


async def _refuse(
    send: Send, refusal: tuple[int, str, str], headers: Mapping[str, str] | None = None
) -> None:
    status, code, detail = refusal
    kind = "server_error" if status >= 500 else "client_error"
    body = {"type": kind, "errors": [{"code": code, "detail": detail, "attr": None}]}
    further = {"retry-after": str(RETRY_AFTER_S[status])} if status in RETRY_AFTER_S else {}
    shown = {"content-type": "application/json", **further, **(headers or {})}
    await _send(send, status, json.dumps(body).encode(), shown)


async def _send(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    all_headers = {
        **headers,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    if status == 413:
        all_headers["connection"] = "close"
    pairs = [(name.encode("ascii"), value.encode("latin-1")) for name, value in all_headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
