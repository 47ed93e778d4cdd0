"""Real servers for the contract suites, installed once per machine and started once per run."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from crm.demo.install import install
from crm.demo.synapse import Synapse
from tests.waiting import eventually

CACHE = Path(os.environ.get("MUSTER_TEST_CACHE") or "~/.cache/muster").expanduser()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def homeserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    """A running Synapse. When it can't be installed the tests fail: they are never skipped."""
    python = install(CACHE / "synapse", print)
    with Synapse(tmp_path_factory.mktemp("synapse"), python) as running:
        yield running


@pytest.fixture
def web(transactional_db: None) -> Iterator[str]:
    """Our application under uvicorn, in this process and on the test's database."""
    from crm.asgi import application

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application, lifespan="off", log_config=None, timeout_graceful_shutdown=3
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()
