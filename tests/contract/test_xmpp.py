"""The XMPP adapter against a real Prosody: the contract, and what is XMPP's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from sync.errors import PlatformUnavailable
from sync.platforms.xmpp import archive
from sync.platforms.xmpp.place import Place
from sync.types import Direction, LastKnown, Refused
from tests.contract.certificates import make_certificate
from tests.contract.platform_contract import PlatformContract
from tests.contract.prosody import FRIENDS, HOST, Prosody
from tests.contract.suite.lost_cursors import lose
from tests.contract.suite.reading import (
    conversations,
    last_cursor,
    logged_in,
    messages,
    open_gaps,
    read,
    tell_nobody,
)
from tests.contract.suite.wire import wire_to
from tests.contract.xmpp_stage import XmppStage, xmpp_stage

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture
async def stage(prosody: Prosody, anyio_backend: str) -> AsyncIterator[XmppStage]:
    async with xmpp_stage(prosody) as ready:
        yield ready


class TestXmppKeepsTheContract(PlatformContract, stage=XmppStage):
    pass


class TestRooms:
    async def test_bookmarked_room_is_a_conversation(self, stage: XmppStage) -> None:
        room = await stage.room("Me")
        first = await stage.say_in_room(room, "hi all")
        async with logged_in(stage) as connection:
            batches = await read(connection)
            assert conversations(batches)[room].is_group
            assert messages(batches)[first].sender_name == "Ana"
            waiting = asyncio.create_task(read(connection, last_cursor(batches), 20))
            news = await stage.say_in_room(room, "news")
            batches += await waiting
            assert messages(batches)[news].text == "news"
            sent = await connection.send(stage.reply(room, "from us", "key"))
            found = messages(await read(connection, last_cursor(batches)))
            assert found[sent].direction is Direction.OUTBOUND
            assert await connection.find_sent(stage.reply(room, "from us", "key")) == sent
            await connection.mark_read(room, first, messages(batches)[first].sent_at)

    async def test_whispers_stay_between_two(self, stage: XmppStage) -> None:
        """A private message in a room is a conversation of its own, and so is the answer."""
        room = await stage.room("Me")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            said = await stage.whisper(room, "Me", "between us")
            reply = stage.reply(f"{room}/Bob", "nobody else", "key")
            sent = await connection.send(reply)
            assert await connection.find_sent(reply) == sent
            found = await read(connection, cursor)
        assert {one.conversation_id for one in messages(found).values()} == {f"{room}/Bob"}
        assert set(messages(found)) == {said, sent}
        assert not conversations(found)[f"{room}/Bob"].is_group
        heard = [one.get("to") for one in stage.heard if "nobody else" in "".join(one.itertext())]
        assert heard == [f"bob@{FRIENDS}/home"]

    async def test_retractions(self, stage: XmppStage) -> None:
        """By who wrote it, and by a moderator; nobody else."""
        room = await stage.room("Me")
        anas, bobs, stays = [
            await stage.say_in_room(room, f"by {who}", who) for who in ("ana", "bob", "ana")
        ]
        async with logged_in(stage) as connection:
            batches = await read(connection)
            assert not any(one.is_deleted for one in messages(batches).values())
            await stage.retract_in_room(room, anas, "ana")
            await stage.retract_in_room(room, stays, "bob")
            await stage.moderate(room, bobs)
            news = await read(connection, last_cursor(batches))
            afresh = await read(connection)
        assert set(messages(news)) == {anas, bobs}
        for found in (messages([*batches, *news]), messages(afresh)):
            assert {id for id, one in found.items() if one.is_deleted} == {anas, bobs}
            assert [found[anas].text, found[bobs].text, found[stays].text] == ["", "", "by ana"]

    async def test_invitation_without_the_room(self, stage: XmppStage) -> None:
        """Followed by a later stream, which also finds the bookmark; one of before is not."""
        await stage.invite_directly()
        async with logged_in(stage) as connection:
            batches = await read(connection)
            assert messages(batches) == {}
        room = await stage.invite_directly()
        said = await stage.say_in_room(room, "hello")
        async with logged_in(stage) as connection:
            found = await read(connection, last_cursor(batches))
            assert list(conversations(found)) == [room]
            sent = await connection.send(stage.reply(room, "here we are", "key"))
        async with logged_in(stage) as connection:
            found += await read(connection, last_cursor(found))
        assert set(messages(found)) == {said, sent}
        assert messages(found)[sent].direction is Direction.OUTBOUND

    async def test_invitation_to_a_room_that_keeps_us_out(self, stage: XmppStage) -> None:
        talk = await stage.thread()
        nowhere = ET.Element("{jabber:x:conference}x", {"jid": f"x@nowhere.{HOST}"})
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            await stage.send(talk, nowhere)
            said = await stage.say(talk, "still here")
            batches = await read(connection, cursor)
        assert list(messages(batches)) == [said]
        (refused,) = [one for batch in batches for one in batch.refused]
        assert (refused.kind, refused.external_id) == ("invitation", f"x@nowhere.{HOST}")
        assert "can't be entered" in refused.error


class TestLostCursors:
    async def test_rooms_and_invitations(self, stage: XmppStage) -> None:
        """A room goes on from its own last message; invitations of before it are not followed
        again, those that came meanwhile are."""
        declined = await stage.invite_directly()
        room = await stage.room("Me")
        await stage.say_in_room(room, "known")
        await stage.say(await stage.thread(), "known, too")
        async with logged_in(stage) as connection:
            known = await read(connection)
        missed = await stage.invite_directly()
        new = {
            await stage.say_in_room(room, "new"),
            await stage.say_in_room(missed, "new, elsewhere"),
            await stage.say(await stage.thread(), "new, from somebody new"),
        }
        async with logged_in(stage) as connection:
            found = await read(connection, await lose(stage, connection, known))
            again = await read(connection, last_cursor(found))
        assert new <= set(messages(found))
        assert {room, missed} <= set(conversations(found))
        assert declined not in conversations(found)
        assert Place.parse(last_cursor(found)).floors == {}
        assert messages(again) == {}

    async def test_nothing_of_the_archive_is_as_new(
        self, stage: XmppStage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The archive's end is where it goes on all the same."""
        talk = await stage.thread()
        await stage.say_many(talk, [f"m{n}" for n in range(40)])
        monkeypatch.setattr(archive, "PAGE", 10)
        ahead = LastKnown({talk: datetime.now(UTC) + timedelta(days=9)}, {})
        async with logged_in(stage) as connection:
            found = await read(connection, connection.cursor_after(ahead))
            assert len(messages(found)) == 10
            assert open_gaps(found) == ()
            said = await stage.say(talk, "new")
            assert set(messages(await read(connection, last_cursor(found)))) == {said}

    async def test_progress_after_it(
        self, stage: XmppStage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        talk = await stage.thread()
        monkeypatch.setattr(archive, "PAGE", 10)
        await stage.say(talk, "known")
        async with logged_in(stage) as connection:
            known = await read(connection)
            await stage.say_many(talk, [f"m{n}" for n in range(49)])
            found = await read(connection, await lose(stage, connection, known))
            assert [one.remaining for one in found] == [40, 30, 20, 10, 0]
            await stage.say_many(talk, [f"n{n}" for n in range(30)])
            news = await read(connection, last_cursor(found))
        assert len(messages(news)) == 30
        assert news[-1].remaining == 0


class TestTurnedDown:
    async def test_reply_that_comes_back_later_is_told(self, stage: XmppStage) -> None:
        talk = await stage.thread()
        await stage.say(talk, "hello")
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            sent = await connection.send(stage.reply(talk, "our answer", "key"))
            cursor = last_cursor(await read(connection, cursor), cursor)
            waiting = asyncio.create_task(read(connection, cursor, 20))
            await stage.turn_down("our answer")
            await stage.turn_down("our answer")
            batches = await waiting
            batches += await read(connection, last_cursor(batches, cursor))
            afresh = await read(connection)
        (refused,) = [one for batch in batches for one in batch.refused]
        assert (refused.kind, refused.external_id) == ("status", sent)
        assert refused.error.endswith("could not be delivered: remote-server-timeout")
        assert messages(batches) == {}, "what came back with it is no message of theirs"
        assert len(messages(afresh)) == 2
        (again,) = stage.platform.reread(stage.account, refused.kind, refused.raw)
        assert isinstance(again, Refused)


CERTIFICATES: dict[str, tuple[str, int, bool]] = {  # host, days left, whether we trust it
    "good": (HOST, 30, True),
    "other-host": ("other.test", 30, True),
    "expired": (HOST, -1, True),
    "self-signed": (HOST, 30, False),
}


@pytest.fixture(scope="class", params=CERTIFICATES)
def encrypted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Prosody]]:
    """What is wrong with its certificate, and a Prosody with that."""
    host, days_left, is_trusted = CERTIFICATES[request.param]
    home = tmp_path_factory.mktemp("prosody")
    made = make_certificate(home, host, days_left)
    server = Prosody(home, made)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(made[0] if is_trusted else home / "nobody.pem"))
        yield request.param, server
    server.kill()


WRONG = {
    "other-host": "not valid for 'muster.test'",
    "expired": "certificate has expired",
    "self-signed": "self-signed certificate",
}


class TestEncryption:
    @pytest.mark.parametrize("scheme", ["xmpp", "xmpps"])
    async def test_certificate_is_checked(
        self, encrypted: tuple[str, Prosody], scheme: str
    ) -> None:
        """Also on this very machine, where a server without encryption would do."""
        certificate, server = encrypted
        async with wire_to(server.tls_port if scheme == "xmpps" else server.port) as wire:
            stage = XmppStage(server, wire)
            wire.lose_request_with("<auth")
            account = replace(stage.account, endpoint=f"{scheme}://127.0.0.1:{wire.port}")
            async with stage.platform.connect(account) as connection:
                if certificate in WRONG:
                    with pytest.raises(PlatformUnavailable, match=WRONG[certificate]):
                        await connection.login(tell_nobody)
                    return
                await connection.login(tell_nobody)
                assert await read(connection)

    async def test_no_password_without_encryption(self, prosody: Prosody) -> None:
        async with wire_to(prosody.port) as wire:
            stage = XmppStage(prosody, wire)
            wire.lose_request_with("<auth")
            # Another name for this machine, which we don't know as such.
            account = replace(stage.account, endpoint=f"xmpp://0.0.0.0:{wire.port}")
            async with stage.platform.connect(account) as connection:
                with pytest.raises(PlatformUnavailable, match="no encryption"):
                    await connection.login(tell_nobody)
        assert wire.broken == 0
