"""The first, full read, and what follows it."""

from __future__ import annotations

from datetime import UTC, datetime

from sync.platforms.base import Connection
from sync.types import ConversationRecord, Direction, MessageRecord, PostRecord
from tests.contract.suite.reading import (
    ROW_LIMIT,
    author,
    entries,
    last_cursor,
    logged_in,
    read,
    texts,
    thread_of,
    threads,
    written_at,
)
from tests.contract.suite.stage import Ability, Stage, Subject, needs


class FirstRead(Subject):
    async def test_first_read_brings_everything(self, stage: Stage) -> None:
        one, other = await stage.thread(), await stage.thread()
        said = [await stage.say(one, "one"), await stage.say(one, "two")]
        elsewhere = await stage.say(other, "three")
        async with logged_in(stage) as connection:
            batches = await read(connection)
        found = entries(batches)
        assert {one, other} <= set(threads(batches))
        assert [found[id].text for id in [*said, elsewhere]] == ["one", "two", "three"]
        assert thread_of(found[said[0]]) == one
        assert found[said[0]].direction is Direction.INBOUND
        assert author(found[said[0]])
        assert abs((datetime.now(UTC) - written_at(found[said[0]])).total_seconds()) < 120
        assert not any(batch.refused for batch in batches)

    async def test_threads_come_before_their_entries(self, stage: Stage) -> None:
        await stage.say(await stage.thread(), "hello")
        async with logged_in(stage) as connection:
            records = [record for batch in await read(connection) for record in batch.records]
        seen: set[str] = set()
        for record in records:
            if isinstance(record, ConversationRecord | PostRecord):
                seen.add(record.external_id)
            else:
                assert thread_of(record) in seen
        assert any(isinstance(r, MessageRecord) or hasattr(r, "post_id") for r in records)

    async def test_account_without_anything(self, stage: Stage) -> None:
        async with logged_in(stage) as connection:
            batches = await read(connection)
            assert entries(batches) == {}
            talk = await stage.thread()
            said = await stage.say(talk, "first")
            assert list(entries(await read(connection, last_cursor(batches)))) == [said]


class Increments(Subject):
    async def test_increment_brings_only_news(self, stage: Stage) -> None:
        talk = await stage.thread()
        await stage.say(talk, "old")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            new = await stage.say(talk, "new")
            batches = await read(connection, cursor)
            assert list(entries(batches)) == [new]
            assert entries(await read(connection, last_cursor(batches, cursor))) == {}

    async def test_new_thread_is_news(self, stage: Stage) -> None:
        known = await stage.thread()
        await stage.say(known, "known")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            fresh = await stage.thread()
            said = await stage.say(fresh, "hello")
            batches = await read(connection, cursor)
        assert fresh in threads(batches)
        assert list(entries(batches)) == [said]

    @needs(Ability.OWN_ENTRIES)
    async def test_own_entry_is_outbound(self, stage: Stage) -> None:
        talk = await stage.thread()
        said = await stage.say_as_account(talk, "mine")
        async with logged_in(stage) as connection:
            assert entries(await read(connection))[said].direction is Direction.OUTBOUND

    @needs(Ability.INVITATIONS)
    async def test_invitation_is_followed(self, stage: Stage) -> None:
        known = await stage.thread()
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            talk = await stage.invite()
            early = await stage.say(talk, "are you there?")
            batches = await read(connection, cursor)
            late = await stage.say(talk, "good")
            batches += await read(connection, last_cursor(batches, cursor))
        assert talk in threads(batches)
        assert {early, late} <= set(entries(batches))
        assert known not in threads(batches)


class Paging(Subject):
    @needs(Ability.HISTORY)
    async def test_long_history_has_no_holes_wherever_reading_resumes(self, stage: Stage) -> None:
        talk = await stage.thread()
        expected = {f"m{n}" for n in range(stage.many)}
        await stage.say_many(talk, expected)
        async with logged_in(stage) as connection:
            await self._assert_no_holes(connection, "", expected)

    @needs(Ability.HISTORY)
    async def test_long_absence_has_no_holes_wherever_reading_resumes(self, stage: Stage) -> None:
        talk, busy = await stage.thread(), await stage.thread()
        await stage.say(talk, "known")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            expected = {f"m{n}" for n in range(stage.many)}
            await stage.say_many(talk, expected)
            await stage.say_many(busy, more := {f"b{n}" for n in range(60)})
            await self._assert_no_holes(connection, cursor, expected | more)

    async def _assert_no_holes(
        self, connection: Connection, cursor: str, expected: set[str]
    ) -> None:
        batches = await read(connection, cursor)
        assert texts(batches) == expected
        assert all(len(batch.records) <= ROW_LIMIT for batch in batches)
        assert all(batch.more for batch in batches[:-1])
        assert not batches[-1].more
        for position in range(len(batches)):
            stored = batches[: position + 1]
            later = await read(connection, last_cursor(stored, cursor))
            assert texts([*stored, *later]) == expected, f"resumed after {position}"
