"""Replies: sent once, also when the answer was lost [S12]; and marking read [S10]."""

from __future__ import annotations

import uuid

import pytest

from sync.errors import PlatformUnavailable
from sync.platforms.base import Connection
from sync.types import Direction, OutgoingReply
from tests.contract.suite.reading import connected, entries, last_cursor, logged_in, messages, read
from tests.contract.suite.stage import Ability, Stage, Subject, needs


def fresh_key() -> str:
    return uuid.uuid4().hex


async def send_again(stage: Stage, connection: Connection, reply: OutgoingReply) -> str:
    """As the outbox does it after an error that leaves open whether a reply was sent."""
    if not stage.platform.sends_once and (found := await connection.find_sent(reply)):
        return found
    return await connection.send(reply)


class Sending(Subject):
    @needs(Ability.REPLIES)
    async def test_reply_is_sent_and_read_back(self, stage: Stage) -> None:
        talk = await stage.thread()
        await stage.say(talk, "question")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            sent = await connection.send(stage.reply(talk, "你好 <answer> & more", fresh_key()))
            found = entries(await read(connection, cursor))
        assert list(found) == [sent]
        assert found[sent].text == "你好 <answer> & more"
        assert found[sent].direction is Direction.OUTBOUND
        assert (await stage.texts(talk)).count("你好 <answer> & more") == 1

    @needs(Ability.SENDS_ONCE)
    async def test_send_is_idempotent_by_key(self, stage: Stage) -> None:
        talk = await stage.thread()
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            first = await connection.send(stage.reply(talk, "once", key := f"key/{fresh_key()}"))
            again = await connection.send(stage.reply(talk, "once", key))
            found = entries(await read(connection, cursor))
        assert first == again
        assert (await stage.texts(talk)).count("once") == 1
        assert found[first].direction is Direction.OUTBOUND

    @needs(Ability.REPLIES)
    async def test_answer_to_a_reply_gets_lost(self, stage: Stage) -> None:
        """It was sent: nobody may see it twice."""
        talk = await stage.thread()
        await stage.say(talk, "question")
        reply = stage.reply(talk, f"lost{fresh_key()}", fresh_key())
        async with logged_in(stage) as connection:
            session = connection.session
            cursor = last_cursor(await read(connection))
            stage.sending_wire.lose_answer_to(reply.text)
            with pytest.raises(PlatformUnavailable):
                await connection.send(reply)
        assert stage.sending_wire.broken == 1
        async with connected(stage, session) as connection:
            sent = await send_again(stage, connection, reply)
            found = entries(await read(connection, cursor))
        assert list(found) == [sent]
        assert (await stage.texts(talk)).count(reply.text) == 1

    @needs(Ability.REPLIES)
    async def test_reply_itself_gets_lost(self, stage: Stage) -> None:
        """It was not sent: somebody has to see it."""
        talk = await stage.thread()
        await stage.say(talk, "question")
        reply = stage.reply(talk, f"lost{fresh_key()}", fresh_key())
        async with logged_in(stage) as connection:
            session = connection.session
            cursor = last_cursor(await read(connection))
            stage.sending_wire.lose_request_with(reply.text)
            with pytest.raises(PlatformUnavailable):
                await connection.send(reply)
        assert stage.sending_wire.broken == 1
        async with connected(stage, session) as connection:
            sent = await send_again(stage, connection, reply)
            assert list(entries(await read(connection, cursor))) == [sent]
        assert (await stage.texts(talk)).count(reply.text) == 1

    @needs(Ability.REPLIES, Ability.SAME_TEXT_TWICE)
    async def test_two_replies_may_say_the_same(self, stage: Stage) -> None:
        talk = await stage.thread()
        await stage.say(talk, "question")
        first, second = (stage.reply(talk, "yes", fresh_key()) for _ in range(2))
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            sent = await connection.send(first)
            if not stage.platform.sends_once:
                assert await connection.find_sent(first) == sent
                assert await connection.find_sent(second) is None
            also = await connection.send(second)
            assert set(entries(await read(connection, cursor))) == {sent, also}
        assert sent != also

    @needs(Ability.REPLIES, Ability.TREES)
    async def test_reply_below_an_entry(self, stage: Stage) -> None:
        talk = await stage.thread()
        parent = await stage.say(talk, "question")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            sent = await connection.send(stage.reply(talk, "answer", fresh_key(), parent))
            found = entries(await read(connection, cursor))
        assert getattr(found[sent], "parent_id", None) == parent

    @needs(Ability.MARKS_READ)
    async def test_platform_is_told_what_was_read(self, stage: Stage) -> None:
        talk, other = await stage.thread(), await stage.thread()
        first, second = await stage.say(talk, "one"), await stage.say(talk, "two")
        elsewhere = await stage.say(other, "three")
        async with logged_in(stage) as connection:
            found = messages(await read(connection))
            at = {id: found[id].sent_at for id in (first, second)}
            await connection.mark_read(talk, first, at[first])
            assert await stage.is_read(talk, first)
            assert not await stage.is_read(talk, second)
            await connection.mark_read(talk, second, at[second])
            assert await stage.is_read(talk, second)
            await connection.mark_read(talk, second, at[second])
        assert not await stage.is_read(other, elsewhere)
