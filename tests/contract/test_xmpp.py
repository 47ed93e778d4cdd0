"""The XMPP adapter against a real Prosody: the contract, and what is XMPP's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.platform_contract import PlatformContract
from tests.contract.prosody import Prosody
from tests.contract.xmpp_stage import XmppStage, xmpp_stage

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture(scope="session")
def prosody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prosody]:
    server = Prosody(Path(tmp_path_factory.mktemp("prosody")))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
async def stage(prosody: Prosody, anyio_backend: str) -> AsyncIterator[XmppStage]:
    async with xmpp_stage(prosody) as ready:
        yield ready


class TestXmppKeepsTheContract(PlatformContract, stage=XmppStage):
    pass
