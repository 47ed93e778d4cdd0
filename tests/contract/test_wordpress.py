"""The WordPress adapter against a real site: the contract, and what is WordPress's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.platform_contract import PlatformContract
from tests.contract.wordpress_server import WordPressServer
from tests.contract.wordpress_stage import WordPressStage, wordpress_stage

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
async def stage(site: WordPressServer, anyio_backend: str) -> AsyncIterator[WordPressStage]:
    async with wordpress_stage(site) as ready:
        yield ready


class TestWordPressKeepsTheContract(PlatformContract, stage=WordPressStage):
    pass
