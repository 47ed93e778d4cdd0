"""A cursor that is lost: reading goes on from what is known [S3]. Issue 4, "Bad input"."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

from sync.errors import CursorInvalid
from sync.platforms.base import Connection
from sync.platforms.xmpp import archive
from sync.types import (
    Batch,
    CommentRecord,
    KnownPost,
    LastKnown,
    MessageRecord,
    PostRecord,
)
from tests.contract.suite.reading import (
    entries,
    last_cursor,
    logged_in,
    open_gaps,
    read,
    texts,
    thread_of,
    threads,
)
from tests.contract.suite.stage import Ability, Stage, Subject, needs

HOUR_S = 3600.0
ROWS = 30  # of a batch, and of a page of history where the platform lets us choose


def last_known(batches: Iterable[Batch]) -> LastKnown:
    """As `sync.reading_on` has it once these batches are stored."""
    stored = list(batches)
    conversations: dict[str, datetime] = {}
    below: dict[str, list[CommentRecord]] = {}
    for entry in entries(stored).values():
        if isinstance(entry, MessageRecord):
            before = conversations.get(thread_of(entry), entry.sent_at)
            conversations[thread_of(entry)] = max(before, entry.sent_at)
        else:
            below.setdefault(entry.post_id, []).append(entry)
    posts = {
        id: KnownPost(
            one.edited_at or one.published_at,
            max((each.published_at for each in below.get(id, ())), default=None),
            sum(not each.is_deleted for each in below.get(id, ())),
        )
        for id, one in threads(stored).items()
        if isinstance(one, PostRecord)
    }
    return LastKnown(conversations, posts)


async def lose(stage: Stage, connection: Connection, batches: Iterable[Batch]) -> str:
    """What the engine goes on with, once the platform calls our cursor invalid; or, where it calls
    none so, once it is one that the adapter can't read."""
    cursor = last_cursor(batches)
    lost = stage.stale(cursor) if stage.has(Ability.STALE_CURSORS) else f"{cursor} of old"
    with pytest.raises(CursorInvalid):
        await read(connection, lost)
    after = connection.cursor_after(last_known(batches))
    assert after, "it reads on"
    return after


class LostCursors(Subject):
    @pytest.fixture
    def small_pages(self, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
        settings.MUSTER_BATCH_ROWS = ROWS
        monkeypatch.setattr(archive, "PAGE", ROWS)

    @pytest.mark.usefixtures("small_pages")
    @needs(Ability.READS_ON)
    async def test_lost_cursor_reads_on_from_the_last_known(self, stage: Stage) -> None:
        """What came meanwhile is all there, also with a time before the last that is known, also in
        conversations that are new; what was known long ago is not read again."""
        try:
            await stage.go_back_in_time()
            busy, quiet = await stage.thread(), await stage.thread()
            await stage.say_many(busy, {f"old {n}" for n in range(stage.old)})
            await stage.say(quiet, "old, and then silence")
            await stage.restart()
            await stage.say(busy, "last")
            async with logged_in(stage) as connection:
                known = await read(connection)
                assert len(entries(known)) == stage.old + 2
                await stage.restart(-HOUR_S)
                await stage.say(busy, "new, and its clock is late")
        finally:
            await stage.restart()
        await stage.say(quiet, "new after the silence")
        fresh = await stage.thread()
        await stage.say(fresh, "new, elsewhere")
        new = {"new, and its clock is late", "new after the silence", "new, elsewhere"}
        async with logged_in(stage) as connection:
            found = await read(connection, await lose(stage, connection, known))
            again = await read(connection, last_cursor(found))
        assert new <= texts(found)
        assert fresh in threads(found)
        assert len(entries(found)) <= stage.old / 2, "far fewer than all"
        assert len(entries([*known, *found])) == stage.old + 2 + len(new), "none of them twice"
        assert open_gaps(found) == ()
        assert entries(again) == {}, "and the cursor is as good as any"

    @pytest.mark.usefixtures("small_pages")
    @needs(Ability.READS_ON)
    async def test_much_that_came_while_the_cursor_was_lost(self, stage: Stage) -> None:
        """More than a page, wherever the reading is cut."""
        talk = await stage.thread()
        await stage.say(talk, "known")
        async with logged_in(stage) as connection:
            known = await read(connection)
            await stage.say_many(talk, new := {f"m{n}" for n in range(4 * ROWS)})
            after = await lose(stage, connection, known)
            found = await read(connection, after)
            assert new <= texts(found)
            assert open_gaps(found) == ()
            for position in range(len(found)):
                stored = found[: position + 1]
                later = await read(connection, last_cursor(stored, after))
                assert new <= texts([*stored, *later]), f"resumed after {position}"

    @needs(Ability.READS_ON, Ability.EDITS)
    async def test_edit_while_the_cursor_was_lost(self, stage: Stage) -> None:
        talk = await stage.thread()
        said = await stage.say(talk, "teh")
        async with logged_in(stage) as connection:
            known = await read(connection)
            await stage.edit(talk, said, "the")
            found = await read(connection, await lose(stage, connection, known))
        assert entries([*known, *found])[said].text == "the"

    @needs(Ability.READS_ON, Ability.DELETIONS, Ability.LATE_DELETIONS)
    async def test_deletion_while_the_cursor_was_lost(self, stage: Stage) -> None:
        talk = await stage.thread()
        gone, stays = await stage.say(talk, "gone"), await stage.say(talk, "stays")
        async with logged_in(stage) as connection:
            known = await read(connection)
            await stage.delete(talk, gone)
            found = await read(connection, await lose(stage, connection, known))
        after = entries([*known, *found])
        assert (after[gone].is_deleted, after[stays].is_deleted) == (True, False)
