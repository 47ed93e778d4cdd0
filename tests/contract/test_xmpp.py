"""The XMPP adapter against a real Prosody: the contract, and what is XMPP's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sync.types import Direction
from tests.contract.platform_contract import PlatformContract
from tests.contract.prosody import Prosody
from tests.contract.suite.reading import (
    conversations,
    last_cursor,
    logged_in,
    messages,
    read,
)
from tests.contract.xmpp_stage import XmppStage, xmpp_stage

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture
async def stage(prosody: Prosody, anyio_backend: str) -> AsyncIterator[XmppStage]:
    async with xmpp_stage(prosody) as ready:
        yield ready


class TestXmppKeepsTheContract(PlatformContract, stage=XmppStage):
    pass


class TestRooms:
    async def test_bookmarked_room_is_a_conversation(self, stage: XmppStage) -> None:
        room = await stage.room("Me")
        first = await stage.say_in_room(room, "hi all")
        async with logged_in(stage) as connection:
            batches = await read(connection)
            assert conversations(batches)[room].is_group
            assert messages(batches)[first].sender_name == "Ana"
            waiting = asyncio.create_task(read(connection, last_cursor(batches), 20))
            news = await stage.say_in_room(room, "news")
            batches += await waiting
            assert messages(batches)[news].text == "news"
            sent = await connection.send(stage.reply(room, "from us", "key"))
            found = messages(await read(connection, last_cursor(batches)))
            assert found[sent].direction is Direction.OUTBOUND
            assert await connection.find_sent(stage.reply(room, "from us", "key")) == sent
            await connection.mark_read(room, first)
