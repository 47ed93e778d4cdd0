"""Server-sent events that go on for hours and hold nothing of the request that asked for them.

While Django answers a request, a thread and a database connection of the pool belong to it, also
under ASGI. So a view only says what will be sent; when Django is done with the request, the thread
and the connection given back, `crm.asgi` sends it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest, HttpResponse

from lifecycle.errors import BackendUnavailable

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
WAITING = "muster.event_stream"
SEND_S = 30.0  # so long a reader may take nothing
_cut_off = ContextVar("cut off", default=False)  # of the request whose answer is sent

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class EventStream(HttpResponse):
    """A 200 whose events are sent once Django is done. If they never are, nobody closes them: what
    they hold must go with the last reference to them."""

    def __init__(self, request: HttpRequest, events: AsyncGenerator[bytes]) -> None:
        super().__init__(content_type=EVENT_STREAM)
        self["Cache-Control"] = "no-store, no-transform"
        self["X-Accel-Buffering"] = "no"  # nginx: pass each event on at once
        self.events = events
        self.slot: object = None  # held for as long as this is
        self.scope: Scope = getattr(request, "scope", {})  # none under the test client


async def serve(response: EventStream, receive: Receive, send: Send) -> None:
    """Send the events until they end or the client goes."""
    headers = [
        (name.lower().encode("ascii"), value.encode("latin-1"))
        for name, value in response.items()
        if name.lower() != "content-length"
    ]
    cookies = [
        (b"set-cookie", morsel.output(header="").strip().encode("ascii"))
        for morsel in response.cookies.values()
    ]
    start = {"type": "http.response.start", "status": 200, "headers": [*headers, *cookies]}
    body = asyncio.ensure_future(_send_all(response.events, start, send))
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({body, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        response.slot = None
        for task in (body, gone):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    _cut_off.set(body.done() and not body.cancelled() and not body.result())


async def _send_all(events: AsyncGenerator[bytes], start: Scope, send: Send) -> bool:
    """False when the reader was cut off."""
    await send(start)
    try:
        async with aclosing(events):
            async for chunk in events:
                async with asyncio.timeout(SEND_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except BackendUnavailable as error:
        log.info("an event stream ends; its reader will come again: %s", error)
    except TimeoutError:  # the server closes the connection, as the answer has no end
        log.info("an event stream ends: its reader took nothing for %s s", SEND_S)
        return False
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    return True


class Meant(logging.Filter):
    """Of uvicorn's errors those that are none: an answer without an end is how ASGI lets us close a
    connection, and that has been said."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (_cut_off.get() and "without completing response" in record.getMessage())


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
