"""The Matrix adapter against a real Synapse: the contract, and what is Matrix's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from crm.demo.synapse import Synapse
from sync.errors import LoginFailed, PlatformUnavailable, RequestRejected
from sync.platforms.matrix.place import Gap, Invitation, Place
from sync.types import Attachment, Batch, Refused
from tests.contract.matrix_stage import Anything, MatrixStage, wired_matrix_stage
from tests.contract.platform_contract import PlatformContract
from tests.contract.suite.reading import (
    conversations,
    last_cursor,
    logged_in,
    messages,
    read,
    tell_nobody,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
async def stage(homeserver: Synapse, anyio_backend: str) -> AsyncIterator[MatrixStage]:
    async with wired_matrix_stage(homeserver) as ready:
        yield ready


def place_of(batch: Batch) -> Place:
    assert batch.cursor is not None
    return Place.parse(batch.cursor)


class TestMatrixKeepsTheContract(PlatformContract, stage=MatrixStage):
    pass


class TestTitles:
    async def test_name_then_alias_then_people(self, stage: MatrixStage) -> None:
        room = await stage.thread()
        async with logged_in(stage) as connection:
            batches = await read(connection)
            assert conversations(batches)[room].title == "Fränzi 王"
            alias = f"#room-{stage._tag}:{stage.server.server_name}"
            await stage.friend.client.call(
                Anything, "PUT", f"/directory/room/{alias.replace('#', '%23')}", {"room_id": room}
            )
            await stage.friend.set_state(room, "m.room.canonical_alias", {"alias": alias})
            batches = await read(connection, batches[-1].cursor)
            assert conversations(batches)[room].title == alias
            await stage.friend.set_state(room, "m.room.name", {"name": "订单 Orders"})
            batches = await read(connection, batches[-1].cursor)
            assert conversations(batches)[room].title == "订单 Orders"
            await stage.friend.set_state(room, "m.room.name", {"name": ""})
            batches = await read(connection, batches[-1].cursor)
            assert conversations(batches)[room].title == alias

    async def test_third_member_makes_a_group(self, stage: MatrixStage) -> None:
        room = await stage.thread()
        third = await stage.person("third", "Ana")
        async with logged_in(stage) as connection:
            batches = await read(connection)
            assert not conversations(batches)[room].is_group
            await stage.friend.post(f"/rooms/{room}/invite", user_id=third.user_id)
            await third.client.join(room)
            batches = await read(connection, batches[-1].cursor)
            afresh = await read(connection)
        for found in (conversations(batches)[room], conversations(afresh)[room]):
            assert found.is_group
            assert sorted(found.title.split(", ")) == ["Ana", "Fränzi 王"]


class TestMessages:
    @pytest.mark.parametrize("kind", ["notice", "emote", "location"])
    async def test_kinds_of_text(self, stage: MatrixStage, kind: str) -> None:
        room = await stage.thread()
        content = {"msgtype": f"m.{kind}", "body": "b", "geo_uri": "geo:1,2"}
        said = await stage.friend.send(room, content)
        async with logged_in(stage) as connection:
            found = messages(await read(connection))[said]
        assert (found.text, found.content_type, found.attachments) == ("b", kind, ())

    @pytest.mark.parametrize("kind", ["image", "file", "audio", "video"])
    async def test_files_are_references(self, stage: MatrixStage, kind: str) -> None:
        room = await stage.thread()
        content = {
            "msgtype": f"m.{kind}",
            "body": "see this",
            "filename": "a.bin",
            "url": "mxc://demo.muster/abc",
            "info": {"mimetype": "application/x-a", "size": 7},
        }
        said = await stage.friend.send(room, content)
        async with logged_in(stage) as connection:
            found = messages(await read(connection))[said]
        file = Attachment("mxc://demo.muster/abc", "a.bin", "application/x-a", 7)
        assert (found.text, found.content_type) == ("see this", kind)
        assert found.attachments == (file,)

    async def test_encrypted_message_is_shown_as_such(self, stage: MatrixStage) -> None:
        room = await stage.thread()
        content: dict[str, object] = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"}
        said = await stage.friend.send(room, content, "m.room.encrypted")
        async with logged_in(stage) as connection:
            assert messages(await read(connection))[said].content_type == "encrypted"

    async def test_malformed_ones_are_refused_and_neighbours_stored(
        self, stage: MatrixStage
    ) -> None:
        room = await stage.thread()
        before = await stage.say(room, "before")
        bad = {"msgtype": "m.image", "body": "x", "url": {"not": "text"}}
        refused_id = await stage.friend.send(room, dict(bad))
        after = await stage.say(room, "after")
        async with logged_in(stage) as connection:
            batches = await read(connection)
        (refused,) = [refused for batch in batches for refused in batch.refused]
        assert set(messages(batches)) == {before, after}
        assert refused.external_id == refused_id
        assert "url" in refused.error
        assert '"not": "text"' in refused.raw

    async def test_zero_character_can_be_stored(self, stage: MatrixStage) -> None:
        room = await stage.thread()
        said = await stage.say(room, "a\0b")
        async with logged_in(stage) as connection:
            assert messages(await read(connection))[said].text == "a\ufffdb"

    async def test_edit_and_deletion_far_from_the_original(self, stage: MatrixStage) -> None:
        room = await stage.thread()
        edited, deleted = await stage.say(room, "old"), await stage.say(room, "gone")
        async with logged_in(stage) as connection:
            before = await read(connection)
            await stage.edit(room, edited, "new")
            await stage.delete(room, deleted)
            await stage.say_many(room, [f"m{n}" for n in range(60)])
            after = messages(await read(connection, before[-1].cursor))
        assert after[edited].text == "new"
        assert after[edited].sent_at == messages(before)[edited].sent_at
        assert after[deleted].is_deleted
        assert len(after) == 62

    async def test_too_large_is_rejected_for_good(self, stage: MatrixStage) -> None:
        room = await stage.thread()
        async with logged_in(stage) as connection:
            with pytest.raises(RequestRejected) as caught:
                await connection.send(stage.reply(room, "x" * 70_000, "large"))
        assert (caught.value.code, caught.value.permanent) == ("M_TOO_LARGE", True)


class TestMembership:
    async def test_changes_of_what_was_said_before_our_time(self, stage: MatrixStage) -> None:
        """What is deleted is no loss; an edit says something that we can't place [S6]."""
        room = await stage.invite()
        await stage.friend.set_state(
            room, "m.room.history_visibility", {"history_visibility": "joined"}
        )
        spam, edited = await stage.say(room, "spam"), await stage.say(room, "teh")
        await stage.watched.client.join(room)
        async with logged_in(stage) as connection:
            batches = await read(connection)
            assert messages(batches) == {}
            await stage.delete(room, spam)
            await stage.edit(room, edited, "the")
            cursor = last_cursor(batches)
            readings = [await read(connection, cursor) for _ in range(2)]
        (one,), (again,) = ([r for batch in each for r in batch.refused] for each in readings)
        assert f"it changes {edited}" in one.error
        assert one == again, "and discarded once it stays discarded"
        (found,) = stage.platform.reread(stage.account, one.kind, one.raw)
        assert isinstance(found, Refused)
        assert "an audit fetches that" in found.error

    async def test_last_words_before_being_put_out_are_read(self, stage: MatrixStage) -> None:
        room = await stage.thread()
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            await stage.say_many(room, texts := [f"m{n}" for n in range(50)])
            await stage.friend.post(f"/rooms/{room}/kick", user_id=stage.watched.user_id)
            await stage.say(room, "not for you")
            batches = await read(connection, cursor)
        assert {m.text for m in messages(batches).values()} == set(texts)

    async def test_history_that_was_forgotten_is_refused(self, stage: MatrixStage) -> None:
        room = await stage.thread()
        async with logged_in(stage) as connection:
            await stage.say_many(room, [f"m{n}" for n in range(50)])
            reading = connection.read("", 0)
            first = await anext(reading)
            await reading.aclose()  # type: ignore[attr-defined]
            assert place_of(first).gaps
            await stage.watched.post(f"/rooms/{room}/leave")
            await stage.watched.post(f"/rooms/{room}/forget")
            batches = await read(connection, first.cursor)
        assert [refused.kind for batch in batches for refused in batch.refused] == ["history"]
        assert place_of(batches[-1]).gaps == ()

    async def test_withdrawn_invitation_is_let_go(self, stage: MatrixStage) -> None:
        await stage.thread()
        async with logged_in(stage) as connection:
            since = place_of((await read(connection))[-1])
            ghost = Invitation(room=f"!ghost:{stage.server.server_name}", tries=3)
            place = since.model_copy(update={"invitations": (ghost,)})
            batches = await read(connection, place.text())
        assert [refused.kind for batch in batches for refused in batch.refused] == ["invitation"]
        assert place_of(batches[-1]).invitations == ()

    async def test_gap_of_an_unknown_room_holds_nothing_up(self, stage: MatrixStage) -> None:
        room = await stage.thread()
        async with logged_in(stage) as connection:
            since = place_of((await read(connection))[-1])
            gap = Gap(room=f"!ghost:{stage.server.server_name}", start=since.since)
            said = await stage.say(room, "hello")
            batches = await read(connection, since.model_copy(update={"gaps": (gap,)}).text())
        assert said in messages(batches)
        assert place_of(batches[-1]).gaps == ()


class TestLogin:
    async def test_access_token_instead_of_password(self, stage: MatrixStage) -> None:
        token: dict[str, object] = {"access_token": stage.watched.client.token}
        async with stage.platform.connect(replace(stage.account, credentials=token)) as connection:
            session = await connection.login(tell_nobody)
            assert session["user_id"] == stage.watched.user_id
            await read(connection)

    async def test_access_token_that_is_none(self, stage: MatrixStage) -> None:
        token: dict[str, object] = {"access_token": "nonsense"}
        async with stage.platform.connect(replace(stage.account, credentials=token)) as connection:
            with pytest.raises(LoginFailed):
                await connection.login(tell_nobody)

    async def test_somebody_elses_credentials(self, stage: MatrixStage) -> None:
        other = replace(stage.account, identifier=stage.friend.user_id)
        async with stage.platform.connect(other) as connection:
            with pytest.raises(LoginFailed, match="not @friend"):
                await connection.login(tell_nobody)

    async def test_next_login_is_the_same_device(self, stage: MatrixStage) -> None:
        async with logged_in(stage) as connection:
            first = dict(connection.session)
            second = await connection.login(tell_nobody)
        assert first["device_id"] == second["device_id"]

    @pytest.mark.parametrize(
        "endpoint", ["", "nonsense", "ftp://127.0.0.1", "http://127.0.0.1:1/x"]
    )
    async def test_endpoint_that_is_none(self, stage: MatrixStage, endpoint: str) -> None:
        account = replace(stage.account, endpoint=endpoint)
        async with stage.platform.connect(account) as connection:
            with pytest.raises(PlatformUnavailable):
                await connection.login(tell_nobody)
