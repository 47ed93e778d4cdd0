"""The e-mail adapter against a real Dovecot: the contract, and what is e-mail's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.email_stage import EmailStage, Post, email_stage
from tests.contract.platform_contract import PlatformContract

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
async def stage(
    post: Post,
    certificate: tuple[Path, Path],
    anyio_backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[EmailStage]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with email_stage(post) as ready:
        yield ready


class TestEmailKeepsTheContract(PlatformContract, stage=EmailStage):
    pass
