"""Edits, deletions, and that it does not matter in which order and how often records come."""

from __future__ import annotations

import random

from sync.types import Batch
from tests.contract.suite.reading import (
    author,
    entries,
    last_cursor,
    logged_in,
    read,
    texts,
    written_at,
)
from tests.contract.suite.stage import Ability, Stage, Subject, needs

HOUR_S = 3600.0


class Changes(Subject):
    @needs(Ability.EDITS)
    async def test_edit_changes_the_entry(self, stage: Stage) -> None:
        talk = await stage.thread()
        said = await stage.say(talk, "teh")
        async with logged_in(stage) as connection:
            before = await read(connection)
            await stage.edit(talk, said, "the")
            await stage.edit(talk, said, "The")
            news = await read(connection, last_cursor(before))
            afresh = await read(connection)
        original = entries(before)[said]
        assert original.edited_at is None
        assert list(entries(news)) == [said]
        for batches in ([*before, *news], afresh):
            found = entries(batches)
            assert list(found) == [said]
            assert found[said].text == "The"
            assert found[said].edited_at is not None
            assert written_at(found[said]) == written_at(original)
            assert author(found[said]) == author(original)

    @needs(Ability.DELETIONS)
    async def test_deleted_entry_is_marked(self, stage: Stage) -> None:
        talk = await stage.thread()
        said = await stage.say(talk, "secret")
        async with logged_in(stage) as connection:
            before = await read(connection)
            await stage.delete(talk, said)
            news = await read(connection, last_cursor(before))
            afresh = await read(connection)
        assert list(entries(news)) == [said]
        stored = entries([*before, *news])[said]
        assert stored.is_deleted
        assert stored.text == ""
        assert written_at(stored) == written_at(entries(before)[said])
        assert all(one.is_deleted for one in entries(afresh).values())
        assert "secret" not in texts(afresh)

    @needs(Ability.EDITS, Ability.DELETIONS)
    async def test_edited_and_then_deleted(self, stage: Stage) -> None:
        talk = await stage.thread()
        said, stays = await stage.say(talk, "teh"), await stage.say(talk, "stays")
        async with logged_in(stage) as connection:
            before = await read(connection)
            await stage.edit(talk, said, "the")
            await stage.delete(talk, said)
            news = await read(connection, last_cursor(before))
        stored = entries([*before, *news])
        assert (stored[said].is_deleted, stored[said].text) == (True, "")
        assert stored[stays].text == "stays"


class Order(Subject):
    @needs(Ability.HISTORY)
    async def test_pages_may_come_twice_and_in_any_order(self, stage: Stage) -> None:
        """What the store has in the end does not depend on it [S4]."""
        talk = await stage.thread()
        said = [await stage.say(talk, f"m{n}") for n in range(30)]
        async with logged_in(stage) as connection:
            batches = await read(connection)
            if stage.has(Ability.EDITS):
                await stage.edit(talk, said[3], "edited")
                await stage.edit(talk, said[4], "edited too")
            if stage.has(Ability.DELETIONS):
                await stage.delete(talk, said[5])
            await stage.say(talk, "late")
            batches += await read(connection, last_cursor(batches))
            known = entries(batches)
            again = await read(connection)
        shuffle = random.Random(7).shuffle
        for _ in range(20):
            pages: list[Batch] = [*batches, *again, *again]
            shuffle(pages)
            assert entries(pages) == known

    @needs(Ability.HISTORY)
    async def test_reading_again_says_the_same(self, stage: Stage) -> None:
        talk = await stage.thread()
        await stage.say_many(talk, [f"m{n}" for n in range(60)])
        async with logged_in(stage) as connection:
            assert entries(await read(connection)) == entries(await read(connection))

    async def test_clock_of_the_server_is_wrong(self, stage: Stage) -> None:
        """It goes back and forth by hours; no entry is lost, and none comes twice."""
        talk = await stage.thread()
        await stage.say(talk, "right")
        async with logged_in(stage) as connection:
            batches = await read(connection)
        try:
            for text, offset_s in (("late", -2 * HOUR_S), ("early", HOUR_S), ("right again", 0)):
                await stage.restart(offset_s)
                said = await stage.say(talk, text)
                async with logged_in(stage) as connection:
                    news = await read(connection, last_cursor(batches))
                assert list(entries(news)) == [said], text
                assert entries(news)[said].text == text
                batches += news
        finally:
            await stage.restart()
