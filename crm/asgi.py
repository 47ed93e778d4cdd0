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

    def __init__(self) -> None:
        super().__init__()
        from sync.hooks.receiver import Receiver  # models: only once Django is set up

        self.receiver = Receiver()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.receiver.is_for(scope):  # webhooks: nothing of Django's middleware, and no login
            await self.receiver(scope, receive, send)
            return
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
