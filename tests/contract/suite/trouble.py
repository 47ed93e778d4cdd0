"""A server that is killed, and answers that stop in the middle: nothing gets lost."""

from __future__ import annotations

import random
from contextlib import aclosing

import pytest

from tests.contract.suite.reading import (
    connected,
    drain,
    last_cursor,
    logged_in,
    read,
    read_until_broken,
    texts,
)
from tests.contract.suite.stage import Stage, Subject


def incompressible(count: int) -> set[str]:
    generator = random.Random(count)
    return {f"{n} {generator.randbytes(250).hex()}" for n in range(count)}


class Trouble(Subject):
    @pytest.mark.parametrize("size", [1, 3_000, 40_000])
    async def test_answer_stops_in_the_middle(self, stage: Stage, size: int) -> None:
        """Bytes that came so far are no page."""
        talk = await stage.thread()
        expected = incompressible(150)
        await stage.say_many(talk, expected)
        async with logged_in(stage) as connection:
            session = connection.session
            stage.wire.cut_answers_after(size)
            batches, was_broken = await read_until_broken(connection, "")
        assert was_broken
        assert stage.wire.broken == 1
        assert texts(batches) <= expected
        async with connected(stage, session) as connection:
            batches += await read(connection, last_cursor(batches))
        assert texts(batches) == expected

    async def test_server_is_killed_in_the_middle(self, stage: Stage) -> None:
        talk = await stage.thread()
        expected = incompressible(stage.many)
        await stage.say_many(talk, expected)
        async with logged_in(stage) as connection:
            session = connection.session
            async with aclosing(connection.read("", 0)) as reading:  # type: ignore[type-var]
                batches = [await anext(reading)]
                await stage.kill()
                try:
                    rest, was_broken = await drain(reading)
                finally:
                    await stage.restart()
        assert was_broken
        batches += rest
        async with connected(stage, session) as connection:
            batches += await read(connection, last_cursor(batches))
        assert texts(batches) == expected

    async def test_server_is_killed_between_two_reads(self, stage: Stage) -> None:
        """On the same connection: at most one read fails, and what was said is there."""
        talk = await stage.thread()
        await stage.say(talk, "before")
        async with logged_in(stage) as connection:
            session = connection.session
            batches = await read(connection)
            await stage.kill()
            await stage.restart()
            await stage.say(talk, "after")
            more, _ = await read_until_broken(connection, last_cursor(batches))
            batches += more
        async with connected(stage, session) as connection:
            batches += await read(connection, last_cursor(batches))
        assert texts(batches) == {"before", "after"}
