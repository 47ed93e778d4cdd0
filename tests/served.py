"""A real HTTP server in a thread, on a free port of the loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import uvicorn

from tests.threads import alongside
from tests.waiting import eventually


@contextmanager
def served(application: Any, **options: Any) -> Iterator[str]:
    """`application` (ASGI) at the address that is given."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        application, log_level="warning", lifespan="off", timeout_graceful_shutdown=1, **options
    )
    server = uvicorn.Server(config)

    def end() -> None:
        server.should_exit = True

    with closing(listening), alongside(lambda: server.run([listening]), end=end):
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
