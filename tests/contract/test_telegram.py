"""The Telegram adapter against a double of the Bot API. No live bot was tried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sync.errors import CursorInvalid, PlatformUnavailable, RequestRejected
from sync.types import AccountRef, OutgoingReply
from tests.contract.platform_contract import PlatformContract
from tests.contract.suite.lost_cursors import last_known
from tests.contract.suite.reading import (
    connected,
    entries,
    last_cursor,
    logged_in,
    read,
    texts,
)
from tests.contract.telegram_stage import TelegramStage, telegram_stage

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
async def stage(tmp_path: Path, anyio_backend: str) -> AsyncIterator[TelegramStage]:
    async with telegram_stage(tmp_path) as ready:
        yield ready


class TestTelegramKeepsTheContract(PlatformContract, stage=TelegramStage):
    pass


async def test_what_was_not_committed_comes_again(stage: TelegramStage) -> None:
    """Telegram forgets what is below the offset: it is told only what was stored."""
    talk = await stage.thread()
    await stage.say_many(talk, [f"m{n}" for n in range(250)])
    async with logged_in(stage) as connection:
        session = connection.session
        reading = aiter(connection.read("", 0))
        first = await anext(reading)  # stored
        second = await anext(reading)  # not stored: we are killed here
        assert len(texts([first, second])) == 200
    async with connected(stage, session) as connection:
        again = await read(connection, first.cursor)
    assert texts([first, *again]) == {f"m{n}" for n in range(250)}


async def test_what_telegram_dropped_is_a_gap(stage: TelegramStage) -> None:
    talk = await stage.thread()
    await stage.say(talk, "read")
    async with logged_in(stage) as connection:
        cursor = last_cursor(await read(connection))
        await stage.say_many(talk, ["lost 1", "lost 2"])
        await stage.double.order("expire")
        await stage.say(talk, "later")
        batches = await read(connection, cursor)
    assert texts(batches) == {"later"}
    (gap,) = batches[-1].gaps or ()
    assert int(gap.newer_end) - int(gap.older_end) == 3


async def test_a_lost_cursor_loses_nothing_and_brings_nothing_twice(stage: TelegramStage) -> None:
    """All that Telegram still has comes without an offset: what nobody confirmed."""
    talk = await stage.thread()
    await stage.say_many(talk, [f"m{n}" for n in range(250)])
    async with logged_in(stage) as connection:
        known = await read(connection)
        assert len(entries(known)) == 250
        await stage.say(talk, "new")
        fresh = await stage.thread()
        await stage.say(fresh, "new, elsewhere")
        with pytest.raises(CursorInvalid):
            await read(connection, f"{last_cursor(known)} of old")
        after = connection.cursor_after(last_known(known))
        assert after == ""
        found = await read(connection, after)
        again = await read(connection, last_cursor(found))
    assert {"new", "new, elsewhere"} <= texts(found)
    assert len(entries(found)) == 52, "of what we have only the last page, which nobody confirmed"
    assert len(entries([*known, *found])) == 252
    assert entries(again) == {}


async def test_a_lost_cursor_and_a_time_of_webhooks_close_no_gap(stage: TelegramStage) -> None:
    """What Telegram has dropped never comes: the gap must not look as if it had."""
    talk = await stage.thread()
    async with logged_in(stage) as connection:
        await stage.say(talk, "read")
        cursor = last_cursor(await read(connection))
        await stage.say_many(talk, ["lost 1", "lost 2"])
        await stage.double.order("expire")
        await stage.say(talk, "later")
        gaps = (await read(connection, cursor))[-1].gaps
        assert gaps
        await stage.say(talk, "after the loss")
        found = await read(connection, connection.cursor_keeping(gaps))
        assert "after the loss" in texts(found)
        assert found[-1].gaps == gaps
        session, cursor = connection.session, last_cursor(found)
    await stage.double.order("set_webhook", url="https://muster.example/api/v1/hooks/x/1")
    async with stage.platform.connect(pushed(stage, session)) as connection:
        (nothing,) = await read(connection, cursor)
        assert nothing.gaps is None, "they are left as they are"
    await stage.double.order("set_webhook", url="")
    await stage.say(talk, "polled again")
    async with connected(stage, session) as connection:
        found = await read(connection, nothing.cursor)
    assert "polled again" in texts(found)
    assert found[-1].gaps == gaps


async def test_two_who_poll_hear_it(stage: TelegramStage) -> None:
    await stage.thread()
    async with logged_in(stage) as one, logged_in(stage) as other:
        cursor = last_cursor(await read(one))
        waiting = asyncio.create_task(read(one, cursor, wait_s=20))
        await asyncio.wait([waiting], timeout=0.5)
        await read(other)
        with pytest.raises(RequestRejected, match="somebody else polls"):
            await waiting


def pushed(stage: TelegramStage, session: dict[str, object]) -> AccountRef:
    """The account, with a webhook."""
    secret = {**stage.account.credentials, "webhook_secret": "telegram_secret_0123"}
    return replace(stage.account, credentials=secret, session=session)


async def test_webhook_or_polling(stage: TelegramStage) -> None:
    async with logged_in(stage) as connection:
        session = connection.session
        await stage.double.order("set_webhook", url="https://muster.example/api/v1/hooks/x/1")
        with pytest.raises(RequestRejected, match="webhook_secret"):
            await read(connection)
    async with stage.platform.connect(pushed(stage, session)) as connection:
        assert texts([batch async for batch in connection.read("", 0)]) == set()
        await stage.double.order("set_webhook", url="")
        with pytest.raises(RequestRejected, match="no webhook is set"):
            _ = [batch async for batch in connection.read("", 0)]


def reply(thread: str, text: str) -> OutgoingReply:
    return OutgoingReply("key", text, datetime.now(UTC), conversation_id=thread)


async def test_replies(stage: TelegramStage) -> None:
    talk = await stage.thread()
    async with logged_in(stage) as connection:
        sent = await connection.send(reply(talk, "你好 <answer> & more"))
        assert sent == f"{talk}/1"
        assert await stage.texts(talk) == ["你好 <answer> & more"]
        with pytest.raises(RequestRejected, match="too long"):
            await connection.send(reply(talk, "x" * 4097))
        with pytest.raises(RequestRejected, match="chat not found"):
            await connection.send(reply("999", "x"))
        stage.wire.lose_answer_to("lost")
        with pytest.raises(PlatformUnavailable):
            await connection.send(reply(talk, "lost"))
        with pytest.raises(RequestRejected, match="may have been sent"):
            await connection.find_sent(reply(talk, "lost"))
    assert (await stage.texts(talk)).count("lost") == 1
