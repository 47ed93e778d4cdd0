"""Real servers for the contract suites, installed once per machine and started once per run."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from crm.demo.install import install
from crm.demo.synapse import Synapse
from tests.contract.certificates import make_certificate
from tests.contract.dovecot import Dovecot
from tests.contract.email_stage import Post
from tests.contract.prosody import Prosody
from tests.contract.smtp_server import Relay, SmtpServer
from tests.contract.wordpress_server import WordPressServer
from tests.fake.process import FakeServer
from tests.served import served

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

    with served(application, log_config=None) as url:
        yield url


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """For servers on loopback: the certificate, and its key."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def post(certificate: tuple[Path, Path]) -> Iterator[Post]:
    """A running Dovecot with an SMTP server before it."""
    dovecot = Dovecot(*certificate)
    relay = Relay(dovecot.lmtp_port)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    smtp = SmtpServer(relay, context)
    try:
        dovecot.start()
        smtp.start()
        yield Post(dovecot, relay, smtp)
        smtp.stop()
    finally:
        dovecot.close()


@pytest.fixture(scope="session")
def prosody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prosody]:
    """A running Prosody."""
    server = Prosody(tmp_path_factory.mktemp("prosody"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def site() -> Iterator[WordPressServer]:
    """A running WordPress, empty."""
    server = WordPressServer()
    try:
        server.install()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def fake_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    """A running fake platform."""
    with FakeServer(tmp_path_factory.mktemp("fake")) as running:
        yield running
