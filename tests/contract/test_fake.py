"""The fake platform keeps the contract; and with all its faults, nothing is lost or twice [S3]."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sync.errors import (
    CursorInvalid,
    LoginExpired,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.types import Batch, CommentRecord, MessageRecord
from tests.contract.fake_stage import (
    FakeCommentsStage,
    FakeStage,
    KeyedFakeStage,
    fake_stage,
)
from tests.contract.platform_contract import PlatformContract
from tests.contract.suite.reading import (
    entries,
    last_cursor,
    logged_in,
    open_gaps,
    read,
    tell_nobody,
    threads,
)
from tests.fake import platform
from tests.fake.process import FakeServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

ALL_FAULTS: dict[str, Any] = {
    "error_500": 0.05,
    "rate_limit": 0.05,
    "retry_after_s": 0,
    "expire": 0.02,
    "half": 0.05,
    "lost_answer": 0.05,
    "duplicates": 0.3,
    "reorder": 0.3,
    "large": 0.05,
}


@pytest.fixture
async def stage(fake_server: FakeServer, anyio_backend: str) -> AsyncIterator[FakeStage]:
    async with fake_stage(fake_server) as ready:
        yield ready


class TestFakeKeepsTheContract(PlatformContract, stage=FakeStage):
    pass


class TestFakeCommentsKeepTheContract(PlatformContract, stage=FakeCommentsStage):
    @pytest.fixture
    async def stage(self, fake_server: FakeServer, anyio_backend: str) -> AsyncIterator[FakeStage]:
        async with fake_stage(fake_server, FakeCommentsStage) as ready:
            yield ready


class TestKeyedFakeKeepsTheContract(PlatformContract, stage=KeyedFakeStage):
    @pytest.fixture
    async def stage(self, fake_server: FakeServer, anyio_backend: str) -> AsyncIterator[FakeStage]:
        async with fake_stage(fake_server, KeyedFakeStage) as ready:
            yield ready


async def read_stubbornly(stage: FakeStage) -> list[Batch]:
    """As a worker does it: again from the last cursor, after a login where that is over."""
    batches: list[Batch] = []
    async with stage.platform.connect(stage.account) as connection:
        while True:
            try:
                if not connection.session:
                    await connection.login(tell_nobody)
                async for batch in connection.read(last_cursor(batches), 0):
                    batches.append(batch)
            except LoginExpired:
                connection.session = {}
            except (PlatformUnavailable, RateLimited):
                continue
            else:
                return batches


class TestFaults:
    async def test_truth_comes_through_all_faults(self, stage: FakeStage) -> None:
        stage.control(
            "generate",
            seed=7,
            conversations=20,
            messages=3000,
            posts=10,
            comments=2000,
            edits=300,
            deletions=100,
            unknown=20,
            malformed=20,
            disorder=400,
        )
        stage.control("faults", **ALL_FAULTS, seed=7)
        batches = await read_stubbornly(stage)
        happened, truth = stage.control("happened"), stage.control("truth")
        assert set(happened) >= set(ALL_FAULTS) - {"retry_after_s"}
        found = entries(batches)
        wanted = {**truth["message"], **truth["comment"]}
        assert set(found) == set(wanted)
        for id, record in found.items():
            assert (record.text, record.is_deleted) == (
                wanted[id]["text"],
                wanted[id].get("deleted", False),
            )
            assert isinstance(record, MessageRecord) == (id in truth["message"])
            assert isinstance(record, CommentRecord) == (id in truth["comment"])
        assert set(threads(batches)) == {*truth["conversation"], *truth["post"]}
        refused = {one.external_id: one for batch in batches for one in batch.refused}
        assert set(refused) == set(truth["unreadable"])
        assert len(truth["unreadable"]) == 40
        assert open_gaps(batches) == ()

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ("error_500", PlatformUnavailable),
            ("half", PlatformUnavailable),
            ("lost_answer", PlatformUnavailable),
            ("rate_limit", RateLimited),
            ("expire", LoginExpired),
        ],
    )
    async def test_fault_on_order_happens_once(
        self, stage: FakeStage, fault: str, error: type[Exception]
    ) -> None:
        said = await stage.say(await stage.thread(), "hello")
        async with logged_in(stage) as connection:
            stage.server.control("faults", order=fault, path="/changes")
            with pytest.raises(error):
                await read(connection)
            if fault == "expire":
                await connection.login(tell_nobody)
            assert said in entries(await read(connection))

    async def test_server_that_hangs_is_given_up(
        self, stage: FakeStage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tests.fake.adapter.TIMEOUT_S", 0.3)
        async with logged_in(stage) as connection:
            stage.server.control("faults", order="hang", path="/changes")
            with pytest.raises(PlatformUnavailable):
                await read(connection)
            stage.control("faults", slow=1.0, slow_s=0.05)
            begun = time.monotonic()
            await read(connection)
            assert time.monotonic() - begun >= 0.05

    async def test_large_page(self, stage: FakeStage) -> None:
        stage.control("generate", conversations=1, messages=5000)
        async with logged_in(stage) as connection:
            stage.server.control("faults", order="large", path="/changes")
            batches = await read(connection)
        assert len(entries(batches)) == 5000
        assert len(batches[0].records) == 500

    async def test_made_up_records_are_those_of_the_seed(self, stage: FakeStage) -> None:
        wanted: dict[str, Any] = {
            "seed": 3,
            "conversations": 2,
            "messages": 50,
            "edits": 5,
            "disorder": 9,
        }
        first = stage.control("generate", **wanted)
        assert first["records"] == 57
        before = stage.control("truth")["message"]
        stage.control("generate", **wanted)
        after = stage.control("truth")["message"]
        assert before.keys() == after.keys()
        assert [one["text"] for one in before.values()] == [one["text"] for one in after.values()]

    async def test_many_can_wait(self, stage: FakeStage) -> None:
        talk = await stage.thread()
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            waits = [asyncio.create_task(read(connection, cursor, 30)) for _ in range(100)]
            await asyncio.wait(waits, timeout=0.5)
            said = await stage.say(talk, "now")
            assert [list(entries(each)) for each in await asyncio.gather(*waits)] == [[said]] * 100

    async def test_dead_letter_is_read_again(self, stage: FakeStage) -> None:
        stage.control("generate", conversations=1, messages=1, malformed=1)
        async with logged_in(stage) as connection:
            batches = await read(connection)
        (refused,) = [one for batch in batches for one in batch.refused]
        (again,) = platform.reread(stage.account, refused.kind, refused.raw)
        assert again == refused
        (mended,) = platform.reread(
            stage.account, refused.kind, refused.raw.replace('"then"', "1700000000000")
        )
        assert isinstance(mended, MessageRecord)

    async def test_commands_that_make_no_sense(self, stage: FakeStage) -> None:
        nonsense: list[tuple[str, dict[str, Any]]] = [
            ("fly", {}),
            ("faults", {"gremlins": 1}),
            ("say", {"thread": "?"}),
        ]
        for command, given in nonsense:
            with pytest.raises(RuntimeError):
                stage.control(command, **given)
        async with logged_in(stage) as connection:
            with pytest.raises(RequestRejected):
                await connection.send(stage.reply("nowhere", "x", "k"))
            cursor = last_cursor(await read(connection))
            stage.control("forget")
            with pytest.raises(CursorInvalid):
                await read(connection, cursor)
