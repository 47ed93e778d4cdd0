"""Real servers for the contract suites, installed once per machine and started once per run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crm.demo.install import install
from crm.demo.synapse import Synapse
from tests.fake.process import FakeServer

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


@pytest.fixture(scope="session")
def fake_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    """A running fake platform."""
    with FakeServer(tmp_path_factory.mktemp("fake")) as running:
        yield running
