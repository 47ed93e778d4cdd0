"""The Douyin adapter against a double of the Open Platform. No live account was tried."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sync.errors import (
    CursorInvalid,
    LoginExpired,
    LoginFailed,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms.douyin import platform
from sync.platforms.douyin.adapter import DouyinConnection
from sync.platforms.douyin.place import Place
from sync.types import (
    AccountRef,
    Batch,
    CommentRecord,
    Direction,
    LoginStep,
    OutgoingReply,
    PostRecord,
)
from tests.contract.suite.lost_cursors import last_known
from tests.contract.suite.reading import read, read_until_broken, tell_nobody
from tests.contract.suite.wire import Wire, wire_to
from tests.doubles.process import DoubleProcess
from tests.pushed.requests import DOUYIN, FAN, ME

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

DAY_S = 86_400.0


class Stage:
    """One account on the double; its clock is ours to turn."""

    def __init__(self, double: DoubleProcess, wire: Wire) -> None:
        self.double, self.wire = double, wire
        self.now = datetime.now(UTC).timestamp()
        endpoint = f"http://127.0.0.1:{wire.port}"
        self.account = AccountRef(1, "douyin", ME, endpoint, dict(DOUYIN), {})

    @asynccontextmanager
    async def connection(
        self, account: AccountRef | None = None
    ) -> AsyncIterator[DouyinConnection]:
        account = account or self.account
        async with httpx.AsyncClient(base_url=account.endpoint) as http:
            yield DouyinConnection(account, http, lambda: self.now)

    async def comment(self, item: str, *texts: str, parent: str = "") -> list[str]:
        made = await self.double.order("comment", item=item, texts=texts, parent=parent)
        return list(made)

    async def calls(self) -> list[str]:
        return list(await self.double.order("look", at="calls"))


@pytest.fixture
async def stage(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Stage]:
    async with DoubleProcess("douyin", tmp_path) as double, wire_to(double.port) as wire:
        yield Stage(double, wire)


@pytest.fixture
async def connection(stage: Stage) -> AsyncIterator[DouyinConnection]:
    async with stage.connection() as opened:
        await opened.login(tell_nobody)
        yield opened


def comments(batches: list[Batch]) -> dict[str, CommentRecord]:
    rows = (row for batch in batches for row in batch.records)
    return {one.external_id: one for one in rows if isinstance(one, CommentRecord)}


def posts(batches: list[Batch]) -> dict[str, PostRecord]:
    rows = (row for batch in batches for row in batch.records)
    return {one.external_id: one for one in rows if isinstance(one, PostRecord)}


def texts(batches: list[Batch]) -> set[str]:
    return {one.text for one in comments(batches).values()}


# --- works and comments -----------------------------------------------------------------------


async def test_works_and_comments_as_trees(stage: Stage, connection: DouyinConnection) -> None:
    item = await stage.double.order("item")
    (top,) = await stage.comment(item, "好看 👩🏽‍🚀")
    (below,) = await stage.comment(item, "真的", parent=top)
    batches = await read(connection)
    assert posts(batches)[item].title == "作品 0"
    assert posts(batches)[item].author_id == ME
    found = comments(batches)
    assert (found[top].post_id, found[top].parent_id, found[top].text) == (item, "", "好看 👩🏽‍🚀")
    assert (found[below].parent_id, found[below].author_id) == (top, FAN)
    assert found[top].direction is Direction.INBOUND
    assert not batches[-1].more
    assert all(batch.more for batch in batches[:-1])


async def test_long_lists_have_no_holes_wherever_reading_resumes(
    stage: Stage, connection: DouyinConnection
) -> None:
    items = [await stage.double.order("item") for _ in range(45)]
    many = await stage.comment(items[3], *(f"c{n}" for n in range(65)))
    await stage.comment(items[3], *(f"r{n}" for n in range(25)), parent=many[0])
    await stage.comment(items[40], "late")
    batches = await read(connection)
    wanted = {*(f"c{n}" for n in range(65)), *(f"r{n}" for n in range(25)), "late"}
    assert texts(batches) == wanted
    assert len(posts(batches)) == 45
    for position, batch in enumerate(batches):
        rest = await read(connection, batch.cursor)
        assert texts([*batches[: position + 1], *rest]) == wanted, f"resumed after {position}"
        assert len(posts([*batches[: position + 1], *rest])) == 45


async def test_only_what_changed_is_read_again(stage: Stage, connection: DouyinConnection) -> None:
    quiet, busy = await stage.double.order("item"), await stage.double.order("item")
    await stage.comment(quiet, "old")
    await stage.comment(busy, "first")
    cursor = (await read(connection))[-1].cursor
    before = len(await stage.calls())
    again = await read(connection, cursor)
    assert texts(again) == set()
    assert (await stage.calls())[before:] == ["/api/douyin/v1/video/video_list/"]
    (top,) = await stage.comment(busy, "second")
    news = await read(connection, again[-1].cursor)
    assert texts(news) == {"first", "second"}
    await stage.comment(busy, "below", parent=top)
    assert "below" in texts(await read(connection, news[-1].cursor))


async def test_old_works_are_swept_once_a_day(stage: Stage, connection: DouyinConnection) -> None:
    items = [await stage.double.order("item") for _ in range(25)]
    cursor = (await read(connection))[-1].cursor
    await stage.comment(items[0], "on an old one")  # beyond the first page
    assert texts(await read(connection, cursor)) == set()
    stage.now += DAY_S
    assert texts(await read(connection, cursor)) == {"on an old one"}


async def test_as_many_comments_as_before_may_be_others(
    stage: Stage, connection: DouyinConnection
) -> None:
    item = await stage.double.order("item")
    (gone,) = await stage.comment(item, "gone")
    cursor = (await read(connection))[-1].cursor
    await stage.double.order("delete_comment", comment=gone)
    await stage.comment(item, "new")
    stage.now += DAY_S
    batches = await read(connection, cursor)
    assert texts(batches) == {"new"}
    assert texts(await read(connection, batches[-1].cursor)) == set(), "until the next day"


async def test_a_page_that_breaks_is_read_again(stage: Stage, connection: DouyinConnection) -> None:
    item = await stage.double.order("item")
    await stage.comment(item, *(f"c{n}" for n in range(60)))
    stage.wire.cut_answers_after(4000)
    seen, was_broken = await read_until_broken(connection, "")
    assert was_broken
    seen += await read(connection, seen[-1].cursor if seen else "")
    assert texts(seen) == {f"c{n}" for n in range(60)}


# --- lost cursors -----------------------------------------------------------------------------


async def test_a_lost_cursor_reads_what_has_another_number_of_comments_than_we_have(
    stage: Stage, connection: DouyinConnection
) -> None:
    """Also of old works, also replies to old comments, which no time would tell."""
    items = [await stage.double.order("item") for _ in range(45)]
    tops = {}
    for item in items:
        (tops[item], *_) = await stage.comment(item, *(f"{item} {n}" for n in range(30)))
    known = await read(connection)
    assert len(comments(known)) == 45 * 30
    await stage.comment(items[3], "new")
    await stage.comment(items[7], "new, below an old one", parent=tops[items[7]])
    fresh = await stage.double.order("item")
    await stage.comment(fresh, "new, on a new work")
    with pytest.raises(CursorInvalid):
        await read(connection, f"{known[-1].cursor} of old")
    before = len(await stage.calls())
    found = await read(connection, connection.cursor_after(last_known(known)))
    assert {"new", "new, below an old one", "new, on a new work"} <= texts(found)
    assert len(posts(found)) == 46, "all are listed"
    assert len(comments(found)) == 2 * 31 + 1, "and of those that have as many none is read"
    assert len(await stage.calls()) - before < 12, "instead of a hundred"
    assert comments(await read(connection, found[-1].cursor)) == {}


async def test_as_many_comments_as_we_have_may_be_others(
    stage: Stage, connection: DouyinConnection
) -> None:
    """Also on an old work: they are read within a day, once."""
    item = await stage.double.order("item", at=int(stage.now - 90 * DAY_S))
    (gone,) = await stage.comment(item, "gone")
    known = await read(connection)
    await stage.double.order("delete_comment", comment=gone)
    await stage.comment(item, "new")
    found = await read(connection, connection.cursor_after(last_known(known)))
    assert texts(found) == set()
    stage.now += DAY_S
    later = await read(connection, found[-1].cursor)
    assert texts(later) == {"new"}
    await stage.double.order("delete_comment", comment=(*comments(later),)[0])
    await stage.comment(item, "newer")
    stage.now += DAY_S
    assert texts(await read(connection, later[-1].cursor)) == set(), "it is old, and its number is"


async def test_a_page_of_works_that_douyin_no_longer_knows(
    stage: Stage, connection: DouyinConnection
) -> None:
    """In the middle of a reading of all works; elsewhere such a refusal is no cursor's fault."""
    for _ in range(45):
        await stage.double.order("item")
    reading = connection.read("", 0)
    cursor = ""
    async for batch in reading:
        cursor = batch.cursor or cursor
        if Place.parse(cursor).sweep == "20":
            break
    await reading.aclose()  # type: ignore[attr-defined]
    await stage.double.order("fail", code=2100005)
    with pytest.raises(CursorInvalid, match="2100005"):
        await read(connection, cursor)
    await stage.double.order("fail", code=2100005)
    with pytest.raises(RequestRejected, match="2100005"):
        await read(connection)
    assert len(posts(await read(connection))) == 45


# --- login ------------------------------------------------------------------------------------


async def test_consent_by_the_owner(stage: Stage) -> None:
    steps: list[LoginStep] = []
    credentials = {k: v for k, v in DOUYIN.items() if k != "refresh_token"}
    account = replace(
        stage.account, credentials={**credentials, "redirect_uri": "https://us.example/back"}
    )

    async def tell(step: LoginStep) -> Mapping[str, object] | None:
        steps.append(step)
        if len(steps) < 2:
            return None
        (state,) = parse_qs(urlsplit(step.url).query)["state"]
        return {"code": "good-code", "state": state}

    async with stage.connection(account) as connection:
        session = await connection.login(tell)
        assert await read(connection)
    asked = parse_qs(urlsplit(steps[0].url).query)
    assert asked["client_key"] == [DOUYIN["client_key"]]
    assert asked["redirect_uri"] == ["https://us.example/back"]
    assert steps[0] == steps[1]
    assert session["open_id"] == ME
    assert DOUYIN["client_secret"] not in steps[0].url


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"code": "good-code", "state": "of another login"}, "another login"),
        ({"state": ""}, "no code"),
        ({"code": "used before"}, "10007"),
    ],
)
async def test_a_code_that_is_none_of_this_login(
    stage: Stage, answer: dict[str, object], words: str
) -> None:
    async def tell(_step: LoginStep) -> Mapping[str, object] | None:
        return answer

    fields = {"client_key": DOUYIN["client_key"], "client_secret": DOUYIN["client_secret"]}
    account = replace(stage.account, credentials={**fields, "redirect_uri": "https://us.example"})
    async with stage.connection(account) as connection:
        with pytest.raises(LoginFailed, match=words):
            await connection.login(tell)


async def test_an_access_token_is_changed_before_its_end_and_when_it_is_refused(
    stage: Stage, connection: DouyinConnection
) -> None:
    session = dict(connection.session)
    stage.now += 14 * DAY_S
    with pytest.raises(LoginExpired):
        await read(connection)
    renewed = await connection.login(tell_nobody)
    assert renewed["access_token"] != session["access_token"]
    assert await read(connection)
    await stage.double.order("expire_access")
    with pytest.raises(LoginExpired, match="2190008"):
        await read(connection)
    await connection.login(tell_nobody)
    assert await read(connection)


async def test_a_refresh_token_is_renewed_five_times(
    stage: Stage, connection: DouyinConnection
) -> None:
    for number in range(1, 6):
        await stage.double.order("age", seconds=10 * DAY_S)
        session = await connection.login(tell_nobody)
        assert session["refresh_token"] == f"rft.renewed{number}"
        assert float(str(session["refresh_expires_at"])) > stage.now + 29 * DAY_S
    await stage.double.order("age", seconds=10 * DAY_S)
    session = await connection.login(tell_nobody)
    assert session["refresh_token"] == "rft.renewed5", "what there is lasts to its end"
    await stage.double.order("age", seconds=0)
    with pytest.raises(LoginFailed, match="consent has run out"):
        await connection.login(tell_nobody)


async def test_another_s_consent_and_wrong_credentials(stage: Stage) -> None:
    async with stage.connection(replace(stage.account, identifier="somebody")) as connection:
        with pytest.raises(LoginFailed, match="open_id"):
            await connection.login(tell_nobody)
    wrong: dict[str, object] = {**DOUYIN, "client_key": "tt-unknown"}
    async with stage.connection(replace(stage.account, credentials=wrong)) as connection:
        with pytest.raises(LoginFailed, match="10003") as caught:
            await connection.login(tell_nobody)
    assert DOUYIN["client_secret"] not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (2190001, RateLimited),
        (28003017, RateLimited),
        (2100004, PlatformUnavailable),
        (28001005, PlatformUnavailable),
        (10008, LoginExpired),
        (28001008, LoginExpired),
        (2190004, RequestRejected),
    ],
)
async def test_error_codes(
    stage: Stage, connection: DouyinConnection, code: int, error: type[Exception]
) -> None:
    await stage.double.order("fail", code=code)
    with pytest.raises(error, match=str(code)):
        await read(connection)
    assert await read(connection)


# --- replies ----------------------------------------------------------------------------------


def reply(text: str, **target: Any) -> OutgoingReply:
    return OutgoingReply("key", text, datetime.now(UTC), **target)


async def test_a_comment_is_answered_and_found_again(
    stage: Stage, connection: DouyinConnection
) -> None:
    item = await stage.double.order("item")
    (top,) = await stage.comment(item, "多少钱？")
    said = reply("十块", post_id=item, parent_id=top)
    assert await connection.find_sent(said) is None
    stage.wire.lose_answer_to("/item/comment/reply/?")
    with pytest.raises(PlatformUnavailable):
        await connection.send(said)
    found = await connection.find_sent(said)
    mine = comments(await read(connection))[str(found)]
    assert (mine.direction, mine.parent_id, mine.text) == (Direction.OUTBOUND, top, "十块")
    own = await connection.send(reply("谢谢", post_id=item))
    assert comments(await read(connection))[own].parent_id == ""


async def test_of_two_equal_answers_the_second_is_not_taken_for_the_first(
    stage: Stage, connection: DouyinConnection
) -> None:
    item = await stage.double.order("item")
    (top,) = await stage.comment(item, "多少钱？")
    said = reply("十块", post_id=item, parent_id=top)
    first = await connection.send(said)
    lost = replace(said, key="another", taken_ids=frozenset({first}))
    assert await connection.find_sent(lost) is None, "the second one was lost on its way"
    stage.wire.lose_answer_to("/item/comment/reply/?")
    with pytest.raises(PlatformUnavailable):
        await connection.send(lost)
    assert await connection.find_sent(lost) not in (None, first)


async def test_a_private_message_answers_one(stage: Stage, connection: DouyinConnection) -> None:
    talk = {"conversation_id": "@talk==", "answers_id": "@message-1", "answers_sender_id": FAN}
    assert await connection.send(reply("你好", **talk)) == "@sent+1=="
    (message,) = await stage.double.order("look", at="private")
    assert message["content"] == {"msg_type": 1, "text": {"text": "你好"}}
    wanted = {"msg_id": "@message-1", "to_user_id": FAN, "conversation_id": "@talk=="}
    assert message.items() >= wanted.items()
    with pytest.raises(RequestRejected, match="only takes answers"):
        await connection.send(reply("你好", conversation_id="@talk=="))
    with pytest.raises(RequestRejected, match="may have been sent"):
        await connection.find_sent(reply("你好", **talk))


def test_a_comment_can_be_read_again_by_hand() -> None:
    account = AccountRef(1, "douyin", ME, "", dict(DOUYIN), {})
    comment = {"comment_id": "c", "comment_user_id": FAN, "content": "x", "create_time": "1"}
    (one,) = platform.reread(account, "comment", json.dumps({"item_id": "i", "comment": comment}))
    assert isinstance(one, CommentRecord)
    assert (one.external_id, one.post_id) == ("c", "i")
    (bad,) = platform.reread(account, "comment", json.dumps({"item_id": "i", "comment": {}}))
    assert not isinstance(bad, CommentRecord)
    assert Place.parse(Place(sweep="20").text()).sweep == "20"
