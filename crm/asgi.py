"""ASGI entry point, served by uvicorn."""

from __future__ import annotations

import os

import django
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponseBase

from lifecycle.api.event_stream import WAITING, EventStream, Receive, Scope, Send, serve

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "crm.settings")
django.setup(set_prefix=False)


class Handler(ASGIHandler):
    """Django's, and event streams that outlive its part (see `lifecycle.api.event_stream`)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        waiting: EventStream | None = scope.pop(WAITING, None)
        if waiting is not None:
            await serve(waiting, receive, send)

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        if isinstance(response, EventStream):
            response.scope[WAITING] = response  # until Django is done with the request
        else:
            await super().send_response(response, send)


application = Handler()
