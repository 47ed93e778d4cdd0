"""What every platform adapter must do [S1, S3, S4]: one suite, run against each one's real server.

A platform's test module makes a class of `PlatformContract` and gives it a `stage` fixture.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import pytest

from sync.errors import CursorInvalid, LoginExpired, LoginFailed, PlatformUnavailable
from sync.platforms.base import Connection, Platform
from sync.types import (
    AccountRef,
    Batch,
    ConversationRecord,
    Direction,
    LoginStep,
    MessageRecord,
    OutgoingReply,
)

MANY = 620  # more than one batch, and than any platform's page
ROW_LIMIT = 500
BYTE_LIMIT = 512 * 1024
UNICODE = "你好，مرحبا, ¡hola! 👩🏽‍🚀 \u202eabc\u202c e\u0301 \U0001f9d1\u200d\U0001f4bb"


class Stage(Protocol):
    """One watched account on a real server, and somebody who talks to it."""

    platform: Platform
    account: AccountRef
    wrong: AccountRef  # the same with credentials that are not right
    away: AccountRef  # the same on a server that isn't there
    largest: int  # bytes of text that fit into one message

    async def conversation(self) -> str:
        """A new conversation of the account and somebody else; its external id."""

    async def invite(self) -> str:
        """A conversation that the account is only invited to."""

    async def say(self, conversation: str, text: str) -> str:
        """Somebody else writes; the message's external id."""

    async def say_as_account(self, conversation: str, text: str) -> str:
        """The account itself writes, on another device."""

    async def edit(self, conversation: str, message: str, text: str) -> None: ...

    async def delete(self, conversation: str, message: str) -> None: ...

    async def log_out(self, session: dict[str, object]) -> None:
        """End the session from elsewhere."""

    async def texts(self, conversation: str) -> list[str]:
        """What the platform itself says is in the conversation."""


@asynccontextmanager
async def logged_in(stage: Stage) -> AsyncIterator[Connection]:
    async with stage.platform.connect(stage.account) as connection:
        await connection.login(tell_nobody)
        yield connection


async def tell_nobody(_step: LoginStep) -> None:
    """Nobody watches this login."""


def reply(conversation: str, text: str, key: str) -> OutgoingReply:
    return OutgoingReply(key, text, created_at=datetime.now(UTC), conversation_id=conversation)


async def read(connection: Connection, cursor: str | None = "", wait_s: float = 0) -> list[Batch]:
    assert cursor is not None, "what is read has a cursor"
    async with aclosing(connection.read(cursor, wait_s)) as batches:  # type: ignore[type-var]
        return [batch async for batch in batches]


def messages(batches: Iterable[Batch]) -> dict[str, MessageRecord]:
    """By external id; as in the store, the last one counts."""
    records = (record for batch in batches for record in batch.records)
    return {each.external_id: each for each in records if isinstance(each, MessageRecord)}


def conversations(batches: Iterable[Batch]) -> dict[str, ConversationRecord]:
    records = (record for batch in batches for record in batch.records)
    return {each.external_id: each for each in records if isinstance(each, ConversationRecord)}


async def say_many(stage: Stage, conversation: str, texts: Iterable[str], at_once: int = 8) -> None:
    gate = asyncio.Semaphore(at_once)

    async def say(text: str) -> None:
        async with gate:
            await stage.say(conversation, text)

    await asyncio.gather(*(say(text) for text in texts))


@pytest.mark.anyio
@pytest.mark.timeout(300)
class PlatformContract:
    async def test_first_read_brings_everything(self, stage: Stage) -> None:
        talk, other = await stage.conversation(), await stage.conversation()
        said = [await stage.say(talk, "one"), await stage.say(talk, "two")]
        elsewhere = await stage.say(other, "three")
        async with logged_in(stage) as connection:
            batches = await read(connection)
        found = messages(batches)
        assert {talk, other} <= set(conversations(batches))
        assert [found[id].text for id in [*said, elsewhere]] == ["one", "two", "three"]
        assert found[said[0]].conversation_id == talk
        assert found[said[0]].direction is Direction.INBOUND
        assert found[said[0]].sender_name
        assert abs((datetime.now(UTC) - found[said[0]].sent_at).total_seconds()) < 120
        assert not any(batch.refused for batch in batches)

    async def test_conversations_come_before_their_messages(self, stage: Stage) -> None:
        await stage.say(await stage.conversation(), "hello")
        async with logged_in(stage) as connection:
            records = [r for batch in await read(connection) for r in batch.records]
        seen: set[str] = set()
        for record in records:
            if isinstance(record, ConversationRecord):
                seen.add(record.external_id)
            elif isinstance(record, MessageRecord):
                assert record.conversation_id in seen

    async def test_increment_brings_only_news(self, stage: Stage) -> None:
        talk = await stage.conversation()
        await stage.say(talk, "old")
        async with logged_in(stage) as connection:
            cursor = (await read(connection))[-1].cursor
            new = await stage.say(talk, "new")
            batches = await read(connection, cursor)
            assert list(messages(batches)) == [new]
            assert messages(await read(connection, batches[-1].cursor)) == {}

    async def test_long_history_has_no_holes_wherever_reading_resumes(self, stage: Stage) -> None:
        talk = await stage.conversation()
        expected = {f"m{n}" for n in range(MANY)}
        await say_many(stage, talk, expected)
        async with logged_in(stage) as connection:
            await self._assert_no_holes(connection, "", expected)

    async def test_long_absence_has_no_holes_wherever_reading_resumes(self, stage: Stage) -> None:
        talk, busy = await stage.conversation(), await stage.conversation()
        await stage.say(talk, "known")
        async with logged_in(stage) as connection:
            cursor = (await read(connection))[-1].cursor
            expected = {f"m{n}" for n in range(MANY)}
            await say_many(stage, talk, expected)
            await say_many(stage, busy, more := {f"b{n}" for n in range(60)})
            await self._assert_no_holes(connection, cursor, expected | more)

    async def _assert_no_holes(
        self, connection: Connection, cursor: str | None, expected: set[str]
    ) -> None:
        batches = await read(connection, cursor)
        assert {m.text for m in messages(batches).values()} == expected
        assert all(len(batch.records) <= ROW_LIMIT for batch in batches)
        assert all(batch.more for batch in batches[:-1])
        assert not batches[-1].more
        for position, batch in enumerate(batches):
            stored = messages(batches[: position + 1])
            stored |= messages(await read(connection, batch.cursor))
            assert {m.text for m in stored.values()} == expected, f"resumed after {position}"

    async def test_batches_are_bounded_in_bytes(self, stage: Stage) -> None:
        talk = await stage.conversation()
        text = "x" * (stage.largest - 100)
        count = BYTE_LIMIT // len(text) + 5
        await say_many(stage, talk, [f"{n}{text}" for n in range(count)])
        async with logged_in(stage) as connection:
            batches = await read(connection)
        assert len(messages(batches)) == count
        for batch in batches:
            size = sum(len(m.text) for m in batch.records if isinstance(m, MessageRecord))
            assert size <= BYTE_LIMIT

    async def test_waiting_ends_within_a_second_of_a_message(self, stage: Stage) -> None:
        talk = await stage.conversation()
        async with logged_in(stage) as connection:
            cursor = (await read(connection))[-1].cursor
            waiting = asyncio.create_task(read(connection, cursor, wait_s=30))
            done, _ = await asyncio.wait([waiting], timeout=0.5)
            assert not done, "with no news it waits"
            said = await stage.say(talk, "now")
            told_at = time.monotonic()
            batches = await waiting
            assert time.monotonic() - told_at < 1
            assert list(messages(batches)) == [said]

    async def test_waiting_ends_by_itself(self, stage: Stage) -> None:
        await stage.conversation()
        async with logged_in(stage) as connection:
            cursor = (await read(connection))[-1].cursor
            began = time.monotonic()
            assert messages(await read(connection, cursor, wait_s=0.5)) == {}
            assert 0.4 < time.monotonic() - began < 5

    async def test_waiting_can_be_cancelled(self, stage: Stage) -> None:
        await stage.conversation()
        async with logged_in(stage) as connection:
            cursor = (await read(connection))[-1].cursor
            waiting = asyncio.create_task(read(connection, cursor, wait_s=30))
            await asyncio.wait([waiting], timeout=0.3)
            began = time.monotonic()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert time.monotonic() - began < 0.5
            assert messages(await read(connection, cursor)) == {}, "the connection still works"

    async def test_own_message_is_outbound(self, stage: Stage) -> None:
        talk = await stage.conversation()
        said = await stage.say_as_account(talk, "mine")
        async with logged_in(stage) as connection:
            assert messages(await read(connection))[said].direction is Direction.OUTBOUND

    async def test_edit_changes_the_message(self, stage: Stage) -> None:
        talk = await stage.conversation()
        said = await stage.say(talk, "teh")
        async with logged_in(stage) as connection:
            before = await read(connection)
            await stage.edit(talk, said, "the")
            await stage.edit(talk, said, "The")
            after = messages(await read(connection, before[-1].cursor))
            afresh = messages(await read(connection))
        original = messages(before)[said]
        assert original.edited_at is None
        for found in (after, afresh):
            assert list(found) == [said]
            assert found[said].text == "The"
            assert found[said].edited_at is not None
            assert found[said].sent_at == original.sent_at
            assert found[said].sender_name == original.sender_name

    async def test_deleted_message_is_marked(self, stage: Stage) -> None:
        talk = await stage.conversation()
        said = await stage.say(talk, "secret")
        async with logged_in(stage) as connection:
            before = await read(connection)
            await stage.delete(talk, said)
            after = messages(await read(connection, before[-1].cursor))
            afresh = messages(await read(connection))
        for found in (after, afresh):
            assert list(found) == [said]
            assert found[said].is_deleted
            assert found[said].text == ""
            assert found[said].sent_at == messages(before)[said].sent_at

    async def test_any_text_arrives_as_it_was_written(self, stage: Stage) -> None:
        talk = await stage.conversation()
        said = await stage.say(talk, UNICODE)
        async with logged_in(stage) as connection:
            assert messages(await read(connection))[said].text == UNICODE

    async def test_large_message_arrives_whole(self, stage: Stage) -> None:
        talk = await stage.conversation()
        text = "大" * (stage.largest // 3)
        said = await stage.say(talk, text)
        async with logged_in(stage) as connection:
            assert messages(await read(connection))[said].text == text

    async def test_invitation_is_followed(self, stage: Stage) -> None:
        known = await stage.conversation()
        async with logged_in(stage) as connection:
            cursor = (await read(connection))[-1].cursor
            talk = await stage.invite()
            early = await stage.say(talk, "are you there?")
            batches = await read(connection, cursor)
            late = await stage.say(talk, "good")
            batches += await read(connection, batches[-1].cursor)
        assert talk in conversations(batches)
        assert {early, late} <= set(messages(batches))
        assert known not in conversations(batches)

    async def test_send_is_idempotent_by_key(self, stage: Stage) -> None:
        talk = await stage.conversation()
        async with logged_in(stage) as connection:
            cursor = (await read(connection))[-1].cursor
            first = await connection.send(reply(talk, "once", "key/1"))
            again = await connection.send(reply(talk, "once", "key/1"))
            found = messages(await read(connection, cursor))
        assert first == again
        assert (await stage.texts(talk)).count("once") == 1
        assert found[first].direction is Direction.OUTBOUND

    async def test_session_is_used_again(self, stage: Stage) -> None:
        talk = await stage.conversation()
        said = await stage.say(talk, "hello")
        async with stage.platform.connect(stage.account) as connection:
            session = await connection.login(tell_nobody)
            assert connection.session == session
        async with stage.platform.connect(replace(stage.account, session=session)) as connection:
            assert said in messages(await read(connection))

    async def test_wrong_credentials(self, stage: Stage) -> None:
        async with stage.platform.connect(stage.wrong) as connection:
            with pytest.raises(LoginFailed) as caught:
                await connection.login(tell_nobody)
        assert caught.value.permanent
        for secret in stage.wrong.credentials.values():
            if secret != stage.account.credentials.get("username"):
                assert str(secret) not in str(caught.value)

    async def test_no_session(self, stage: Stage) -> None:
        async with stage.platform.connect(stage.account) as connection:
            with pytest.raises(LoginExpired):
                await read(connection)

    async def test_session_that_was_ended(self, stage: Stage) -> None:
        await stage.conversation()
        async with logged_in(stage) as connection:
            cursor = (await read(connection))[-1].cursor
            await stage.log_out(connection.session)
            for since in ("", cursor):
                with pytest.raises(LoginExpired):
                    await read(connection, since)
            await connection.login(tell_nobody)
            await read(connection, cursor)

    async def test_server_is_away(self, stage: Stage) -> None:
        async with stage.platform.connect(stage.away) as connection:
            with pytest.raises(PlatformUnavailable):
                await connection.login(tell_nobody)
        session: dict[str, object] = {"access_token": "x", "user_id": "x", "device_id": "x"}
        async with stage.platform.connect(replace(stage.away, session=session)) as connection:
            with pytest.raises(PlatformUnavailable):
                await read(connection)
            with pytest.raises(PlatformUnavailable):
                await connection.send(reply("x", "x", "x"))

    @pytest.mark.parametrize("cursor", ["nonsense", "{}x", '{"since": 7}', '{"since": "nonsense"}'])
    async def test_cursor_that_is_none(self, stage: Stage, cursor: str) -> None:
        async with logged_in(stage) as connection:
            with pytest.raises(CursorInvalid):
                await read(connection, cursor)
