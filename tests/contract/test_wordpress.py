"""The WordPress adapter against a real site: the contract, and what is WordPress's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sync.errors import LoginExpired, LoginFailed, PlatformUnavailable, RateLimited, RequestRejected
from sync.types import (
    CommentRecord,
    Direction,
    KnownPost,
    LastKnown,
    PostRecord,
    RecordKind,
)
from tests.contract.platform_contract import PlatformContract
from tests.contract.suite.lost_cursors import lose
from tests.contract.suite.reading import (
    entries,
    last_cursor,
    listed,
    logged_in,
    read,
    tell_nobody,
    texts,
    threads,
)
from tests.contract.wordpress_server import WordPressServer
from tests.contract.wordpress_stage import WordPressStage, wordpress_stage

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
async def stage(site: WordPressServer, anyio_backend: str) -> AsyncIterator[WordPressStage]:
    async with wordpress_stage(site) as ready:
        yield ready


class TestWordPressKeepsTheContract(PlatformContract, stage=WordPressStage):
    pass


class TestChanges:
    async def test_edit_of_a_recent_comment_is_noticed(self, stage: WordPressStage) -> None:
        talk = await stage.thread()
        said, stays = await stage.say(talk, "teh"), await stage.say(talk, "stays")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            await stage.edit(talk, said, "the")
            news = await read(connection, cursor)
            assert {id: one.text for id, one in entries(news).items()} == {said: "the"}
            assert stays not in entries(news)
            assert [batch.fetched for batch in news if batch.records] == [True]
            assert not entries(await read(connection, last_cursor(news, cursor)))

    @pytest.mark.parametrize("status", ["spam", "trash"])
    async def test_taken_away_and_brought_back(self, stage: WordPressStage, status: str) -> None:
        talk = await stage.thread()
        said = await stage.say(talk, "hello")
        await stage.say(talk, "later")
        async with logged_in(stage) as connection:
            batches = await read(connection)
            await stage.set_status(said, status)
            gone = await read(connection, last_cursor(batches))
            assert [(one.text, one.is_deleted) for one in entries(gone).values()] == [("", True)]
            await stage.set_status(said, "approved")
            back = await read(connection, last_cursor(gone, last_cursor(batches)))
        assert {id: one.text for id, one in entries(back).items()} == {said: "hello"}
        assert all(batch.fetched for batch in back if batch.records), "newer than the deletion"

    async def test_deleted_for_good_is_for_the_audit(self, stage: WordPressStage) -> None:
        talk = await stage.thread()
        gone, stays = await stage.say(talk, "gone"), await stage.say(talk, "stays")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            await stage.request(stage.friend, "DELETE", f"comments/{gone}", params={"force": "1"})
            assert entries(await read(connection, cursor)) == {}
            since = datetime.now(UTC) - timedelta(days=1)
            listings = await listed(connection, since)
        comments = [each for each in listings if each.kind is RecordKind.COMMENT]
        posts = [each for each in listings if each.kind is RecordKind.POST]
        assert [id for each in comments for id in each.ids] == [stays]
        assert [id for each in posts for id in each.ids] == [talk]

    async def test_comment_that_waits_for_approval_is_there(self, stage: WordPressStage) -> None:
        talk = await stage.thread()
        said = await stage.say(talk, "hello")
        await stage.set_status(said, "hold")
        async with logged_in(stage) as connection:
            assert texts(await read(connection)) == {"hello"}

    async def test_edited_post(self, stage: WordPressStage) -> None:
        talk = await stage.thread()
        async with logged_in(stage) as connection:
            batches = await read(connection)
            await stage.sql("UPDATE wp_posts SET post_modified_gmt = '2099-01-01 00:00:00'")
            await stage.call(
                stage.watched, "POST", f"posts/{talk}", title="Neu", content="<p>a</p>"
            )
            news = await read(connection, last_cursor(batches))
        post = threads(news)[talk]
        assert isinstance(post, PostRecord)
        assert (post.title, post.text) == ("Neu", "a")

    async def test_comments_below_a_page(self, stage: WordPressStage) -> None:
        page = await stage.new_page("About")
        said = await stage.say(page, "nice page")
        async with logged_in(stage) as connection:
            batches = await read(connection)
            fetched = [each async for each in connection.fetch(RecordKind.POST, "", [page])]
        assert threads(batches)[page].title == threads(fetched)[page].title == "About"
        assert said in entries(batches)
        of_page = [each.fetched for each in batches if page in threads([each])]
        assert of_page == [True], "newer than the deletion, should it have been away"

    @pytest.mark.parametrize("status", ["draft", "private", "pending", "trash"])
    async def test_what_is_not_published_is_not_told(
        self, stage: WordPressStage, status: str
    ) -> None:
        talk, page = await stage.thread(), await stage.new_page("About")
        for each in (talk, page):
            await stage.say(each, "hello")
            await stage.sql(f"UPDATE wp_posts SET post_status = '{status}' WHERE ID = {each}")  # noqa: S608
        async with logged_in(stage) as connection:
            assert threads(await read(connection)) == {}
            fetched = [each async for each in connection.fetch(RecordKind.POST, "", [talk, page])]
            assert threads(fetched) == {}

    async def test_html_is_read_as_text(self, stage: WordPressStage) -> None:
        talk = await stage.thread()
        content = 'see <a href="https://x.org/">this</a>\n\nand <em>that</em> &amp; more'
        await stage.call(stage.friend, "POST", "comments", post=talk, content=content)
        async with logged_in(stage) as connection:
            (text,) = texts(await read(connection))
        assert text == "see [this](https://x.org/)\n\nand that & more"

    async def test_many_posts_are_all_read(self, stage: WordPressStage) -> None:
        await stage.post_many(250)
        async with logged_in(stage) as connection:
            batches = await read(connection)
            assert len(threads(batches)) == 250
            assert [one.remaining for one in batches][-1] == 0
            assert threads(await read(connection, last_cursor(batches))) == {}


class TestLostCursors:
    async def test_edits_meanwhile_are_found(self, stage: WordPressStage) -> None:
        """What is read again counts as it is now."""
        talk = await stage.thread()
        said, back = await stage.say(talk, "teh"), await stage.say(talk, "back")
        async with logged_in(stage) as connection:
            known = await read(connection)
            await stage.set_status(back, "spam")
            known += await read(connection, last_cursor(known))
            assert entries(known)[back].is_deleted
            await stage.edit(talk, said, "the")
            await stage.set_status(back, "approved")
            await stage.call(stage.watched, "POST", f"posts/{talk}", title="Neu")
            found = await read(connection, await lose(stage, connection, known))
        assert texts(found) == {"the", "back"}
        assert threads(found)[talk].title == "Neu"
        assert all(batch.fetched for batch in found if batch.records), "newer than what is stored"
        assert [batch.remaining for batch in found][-1] == 0

    async def test_posts_that_changed_meanwhile(self, stage: WordPressStage) -> None:
        """Those that did not are not read again: they are from months ago, and many."""
        await stage.post_many(350)
        talk = await stage.thread()
        async with logged_in(stage) as connection:
            known = await read(connection)
            lost = await lose(stage, connection, known)
            await stage.sql(f"UPDATE wp_posts SET post_title = 'Neu' WHERE ID = {talk}")  # noqa: S608
            changed = {await stage.new_post(f"n{n}", "x") for n in range(3)}
            found = await read(connection, lost)
        assert {talk, *changed} <= set(threads(found))
        assert threads(found)[talk].title == "Neu"
        assert len(threads(found)) <= 120

    async def test_what_came_with_an_old_date_is_for_the_audit(self, stage: WordPressStage) -> None:
        """Unless it is among the newest hundred, by its id, or within the margin."""
        talk = await stage.thread()
        await stage.say(talk, "known")
        async with logged_in(stage) as connection:
            known = await read(connection)
            late, imported = await stage.say(talk, "late"), await stage.say(talk, "imported")
            for id, days in ((late, 1), (imported, 90)):
                await stage.sql(
                    f"UPDATE wp_comments SET comment_date = comment_date - INTERVAL {days} DAY,"  # noqa: S608
                    f" comment_date_gmt = comment_date_gmt - INTERVAL {days} DAY"
                    f" WHERE comment_ID = {id}"
                )
            await stage.say_many(talk, [f"m{n}" for n in range(250)])
            found = await read(connection, await lose(stage, connection, known))
            assert len(entries(found)) == 252
            assert late in entries(found)
            assert imported not in entries(found)
            listings = await listed(connection, datetime(2025, 1, 1, tzinfo=UTC))
        assert imported in {id for each in listings for id in each.ids}

    async def test_the_last_that_we_know_is_gone(self, stage: WordPressStage) -> None:
        talk = await stage.thread()
        await stage.say_many(talk, [f"m{n}" for n in range(250)])
        ahead = datetime.now(UTC) + timedelta(days=9)
        async with logged_in(stage) as connection:
            await read(connection)
            lost = connection.cursor_after(LastKnown({}, {talk: KnownPost(ahead, ahead, 250)}))
            found = await read(connection, lost)
            assert len(entries(found)) == 100, "the newest page shows where the site is"
            said = await stage.say(talk, "new")
            assert set(entries(await read(connection, last_cursor(found)))) == {said}


class TestReplies:
    async def test_same_text_of_another_reply_is_not_taken_for_it(
        self, stage: WordPressStage
    ) -> None:
        talk = await stage.thread()
        async with logged_in(stage) as connection:
            first, second = (stage.reply(talk, "yes", key) for key in ("k1", "k2"))
            sent = await connection.send(first)
            assert await connection.find_sent(first) == sent
            assert await connection.send(first) == sent, "it is there already"
            with pytest.raises(RequestRejected) as caught:
                await connection.send(second)
        assert caught.value.code == "comment_duplicate"
        assert await stage.texts(talk) == ["yes"]

    async def test_closed_discussion(self, stage: WordPressStage) -> None:
        talk = await stage.thread()
        await stage.call(stage.watched, "POST", f"posts/{talk}", comment_status="closed")
        async with logged_in(stage) as connection:
            with pytest.raises(RequestRejected) as caught:
                await connection.send(stage.reply(talk, "yes", "key"))
        assert caught.value.status == 403

    async def test_reply_is_outbound_and_below_its_parent(self, stage: WordPressStage) -> None:
        talk = await stage.thread()
        parent = await stage.say(talk, "question")
        async with logged_in(stage) as connection:
            sent = await connection.send(stage.reply(talk, "a\nb", "key", parent))
            found = entries(await read(connection))[sent]
        assert isinstance(found, CommentRecord)
        assert (found.direction, found.parent_id, found.text) == (
            Direction.OUTBOUND,
            parent,
            "a\nb",
        )


class TestTrouble:
    async def test_rate_limit(self, stage: WordPressStage) -> None:
        async with logged_in(stage) as connection:
            await stage.sql(
                "INSERT INTO wp_options (option_name, option_value) VALUES ('muster_answer_429', 7)"
            )
            with pytest.raises(RateLimited) as caught:
                await read(connection)
            assert caught.value.retry_after_s == 7
            await read(connection)

    async def test_user_who_may_not_moderate(self, stage: WordPressStage) -> None:
        reader = stage.server.users["reader"]
        credentials = {"username": reader.login, "application_password": reader.password}
        account = replace(stage.account, credentials=dict(credentials))
        async with stage.platform.connect(account) as connection:
            with pytest.raises(LoginFailed, match="moderate"):
                await connection.login(tell_nobody)
        session: dict[str, object] = {"user_id": reader.id}
        async with stage.platform.connect(replace(account, session=session)) as connection:
            with pytest.raises(LoginExpired):
                await read(connection)

    @pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://127.0.0.1:1/blog"])
    async def test_endpoint_that_is_no_site(self, stage: WordPressStage, endpoint: str) -> None:
        account = replace(stage.account, endpoint=endpoint)
        async with stage.platform.connect(account) as connection:
            with pytest.raises(PlatformUnavailable):
                await connection.login(tell_nobody)

    async def test_comments_thrown_away_while_pages_are_read(self, stage: WordPressStage) -> None:
        """All others move up: none may be skipped."""
        talk = await stage.thread()
        await stage.say_many(talk, [f"m{n}" for n in range(350)])
        async with logged_in(stage) as connection:
            reading = connection.read("", 0)
            batches = [await anext(reading)]
            newest = sorted(entries(batches), key=int)[-60:]
            await stage.sql(f"DELETE FROM wp_comments WHERE comment_ID IN ({','.join(newest)})")  # noqa: S608
            batches += [batch async for batch in reading]
        assert texts(batches) == {f"m{n}" for n in range(350)}
