"""Long absences: ten thousand entries, with a progress figure and gaps that close [S9]."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from sync.platforms import listing
from sync.platforms.matrix import proof
from sync.platforms.xmpp import archive
from sync.types import Batch, Done, Listed, Listing, RecordKind
from tests.contract.suite.reading import (
    ROW_LIMIT,
    entries,
    last_cursor,
    listed,
    logged_in,
    open_gaps,
    read,
    texts,
    thread_of,
    written_at,
)
from tests.contract.suite.stage import Ability, Stage, Subject, needs


def below(each: Listing, done: Done) -> bool:
    """Whether a window was not listed before the cut."""
    reached = done.get((each.kind, each.scope))
    return reached is None or each.since < reached.since


class Backlog(Subject):
    @pytest.mark.timeout(600)
    async def test_ten_thousand_entries_wait(self, stage: Stage) -> None:
        talk = await stage.thread()
        await stage.say(talk, "known")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            expected = {f"m{n}" for n in range(stage.backlog)}
            await stage.say_many(talk, expected)
            batches = await read(connection, cursor)
            assert texts(batches) == expected
            assert all(len(batch.records) <= ROW_LIMIT for batch in batches)
            assert not batches[-1].more
            if stage.has(Ability.PROGRESS):
                self._assert_progress(batches, stage.backlog)
            else:
                assert batches[-1].remaining in (None, 0)

    def _assert_progress(self, batches: list[Batch], count: int) -> None:
        figures = [batch.remaining for batch in batches if batch.remaining is not None]
        assert len(figures) == len(batches), "each batch says how much is left"
        assert figures[-1] == 0
        assert 0.8 * count - 2 * ROW_LIMIT <= figures[0] <= 1.2 * count
        assert figures == sorted(figures, reverse=True)

    @needs(Ability.GAPS)
    async def test_gaps_are_open_until_backfill_closes_them(self, stage: Stage) -> None:
        talk = await stage.thread()
        await stage.say(talk, "known")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            expected = {f"m{n}" for n in range(stage.overflow)}
            await stage.say_many(talk, expected)
            batches = await read(connection, cursor)
            opened = [batch.gaps for batch in batches if batch.gaps]
            assert opened, "so many can't come in one page"
            for gap in itertools.chain.from_iterable(opened):
                assert gap.newer_end
                assert gap.older_end, "it reaches down to what was known"
                assert gap.reason
                assert gap.scope in ("", talk)
            assert all(one.more for one in batches if one.gaps)
            assert open_gaps(batches) == ()
            for position in range(len(batches)):
                stored = batches[: position + 1]
                later = await read(connection, last_cursor(stored, cursor))
                assert open_gaps([*stored, *later]) == (), f"resumed after {position}"


class Proof(Subject):
    @needs(Ability.LISTS)
    async def test_listed_ids_are_those_that_are_read(self, stage: Stage) -> None:
        one, other = await stage.thread(), await stage.thread()
        await stage.say_many(one, [f"m{n}" for n in range(150)])
        await stage.say_many(other, [f"o{n}" for n in range(30)])
        since = datetime.now(UTC) - timedelta(hours=1)
        async with logged_in(stage) as connection:
            known = entries(await read(connection))
            listings = await listed(connection, since)
        own = [each for each in listings if each.kind is stage.kind]
        assert {id for each in own for id in each.ids} == set(known)
        assert sum(len(each.ids) for each in own) == len(known), "each in one window"
        for each in own:
            assert each.since < each.until
            for id in each.ids:
                assert each.scope in ("", thread_of(known[id]))
                assert each.since <= written_at(known[id]) < each.until
        for scope in {each.scope for each in own}:
            begins = [each.since for each in own if each.scope == scope]
            assert begins == sorted(begins, reverse=True), "the newest first"
            assert begins[-1] <= since
        for each in listings:
            assert each.kind in RecordKind

    @needs(Ability.LISTS)
    async def test_a_listing_that_was_cut_goes_on_below(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing, "WINDOW", 20)
        monkeypatch.setattr(proof, "PAGE", 20)
        monkeypatch.setattr(archive, "PAGE", 20)
        one, other = await stage.thread(), await stage.thread()
        await stage.say_many(one, [f"m{n}" for n in range(70)])
        await stage.say_many(other, [f"o{n}" for n in range(30)])
        since = datetime.now(UTC) - timedelta(hours=1)
        async with logged_in(stage) as connection:
            known = entries(await read(connection))
            listings = await listed(connection, since)
            assert len(listings) > 1
            for cut in range(1, len(listings) + 1):
                done: dict[tuple[RecordKind, str], Listed] = {}
                for each in listings[:cut]:
                    done[each.kind, each.scope] = Listed(each.since, each.place)
                rest = await listed(connection, since, done)
                left = [each for each in rest if below(each, done)]
                own = [each for each in (*listings[:cut], *left) if each.kind is stage.kind]
                assert {id for each in own for id in each.ids} == set(known), f"cut at {cut}"

    @needs(Ability.LISTS)
    async def test_listing_ends_where_it_was_asked_to(self, stage: Stage) -> None:
        talk = await stage.thread()
        await stage.say(talk, "old")
        since = datetime.now(UTC) + timedelta(hours=1)
        async with logged_in(stage) as connection:
            await read(connection)
            listings = await listed(connection, since)
        assert [id for each in listings if each.kind is stage.kind for id in each.ids] == []

    @needs(Ability.LISTS)
    async def test_fetched_records_are_those_that_are_read(self, stage: Stage) -> None:
        talk = await stage.thread()
        said = [await stage.say(talk, f"m{n}") for n in range(40)]
        if stage.has(Ability.EDITS):
            await stage.edit(talk, said[7], "edited")
        async with logged_in(stage) as connection:
            known = entries(await read(connection))
            wanted = [said[0], said[7], said[39]]
            batches = [one async for one in connection.fetch(stage.kind, talk, wanted)]
            assert all(batch.cursor is None and batch.fetched for batch in batches)
            assert entries(batches) == {id: known[id] for id in wanted}
            nothing = [one async for one in connection.fetch(stage.kind, talk, [])]
            assert entries(nothing) == {}

    @needs(Ability.LISTS, Ability.DELETIONS)
    async def test_what_is_gone_is_not_fetched(self, stage: Stage) -> None:
        talk = await stage.thread()
        gone, stays = await stage.say(talk, "gone"), await stage.say(talk, "stays")
        async with logged_in(stage) as connection:
            await read(connection)
            await stage.delete(talk, gone)
            batches = [one async for one in connection.fetch(stage.kind, talk, [gone, stays])]
            found = entries(batches)
        assert found[stays].text == "stays"
        assert gone not in found or found[gone].is_deleted

    @needs(Ability.LISTS, Ability.EDITS)
    async def test_listing_shows_that_an_entry_changed(self, stage: Stage) -> None:
        talk = await stage.thread()
        said = await stage.say(talk, "teh")
        since = datetime.now(UTC) - timedelta(hours=1)
        async with logged_in(stage) as connection:
            await read(connection)
            versions = []
            for text in ("the", "The"):
                listings = await listed(connection, since)
                versions += [
                    e.ids[said] for e in listings if e.kind is stage.kind and said in e.ids
                ]
                await stage.edit(talk, said, text)
        before, after = versions
        assert before != after or before == "", "unless the platform tells no versions"
