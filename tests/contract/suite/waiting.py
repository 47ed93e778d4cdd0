"""Waiting for news on an open connection [S2]."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.contract.suite.reading import entries, last_cursor, logged_in, read
from tests.contract.suite.stage import Ability, Stage, Subject, needs


class Waiting(Subject):
    @needs(Ability.WAITS)
    async def test_waiting_ends_within_a_second_of_news(self, stage: Stage) -> None:
        """Once in three times: the machine has other things to do, too."""
        talk = await stage.thread()
        took_s = []
        async with logged_in(stage) as connection:
            batches = await read(connection)
            for number in range(3):
                waiting = asyncio.create_task(read(connection, last_cursor(batches), wait_s=30))
                done, _ = await asyncio.wait([waiting], timeout=0.5)
                assert not done, "with no news it waits"
                said = await stage.say(talk, f"now {number}")
                told_at = time.monotonic()
                batches = await waiting
                took_s.append(time.monotonic() - told_at)
                assert list(entries(batches)) == [said]
        assert min(took_s) < 1, took_s

    @needs(Ability.WAITS)
    async def test_news_after_news(self, stage: Stage) -> None:
        """What comes between two waits on one connection is not missed."""
        talk = await stage.thread()
        async with logged_in(stage) as connection:
            batches = await read(connection)
            expected = []
            for number in range(5):
                waiting = asyncio.create_task(read(connection, last_cursor(batches), wait_s=30))
                expected.append(await stage.say(talk, f"m{number}"))
                batches += await waiting
                expected.append(await stage.say(talk, f"between {number}"))
            batches += await read(connection, last_cursor(batches))
        assert set(entries(batches)) == set(expected)

    @needs(Ability.WAITS)
    async def test_waiting_ends_by_itself(self, stage: Stage) -> None:
        await stage.thread()
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            began = time.monotonic()
            assert entries(await read(connection, cursor, wait_s=0.5)) == {}
            assert 0.4 < time.monotonic() - began < 5

    @needs(Ability.WAITS)
    async def test_waiting_can_be_cancelled(self, stage: Stage) -> None:
        talk = await stage.thread()
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            waiting = asyncio.create_task(read(connection, cursor, wait_s=30))
            await asyncio.wait([waiting], timeout=0.3)
            began = time.monotonic()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert time.monotonic() - began < 5
            said = await stage.say(talk, "later")
            assert list(entries(await read(connection, cursor))) == [said], "it still works"

    async def test_not_waiting_takes_no_time(self, stage: Stage) -> None:
        await stage.thread()
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            began = time.monotonic()
            assert entries(await read(connection, cursor, wait_s=0)) == {}
            assert time.monotonic() - began < 2
