"""Logging in, sessions that end, servers that aren't there, and cursors that are none."""

from __future__ import annotations

import pytest

from sync.errors import CursorInvalid, LoginExpired, LoginFailed, PlatformUnavailable
from tests.contract.suite.reading import (
    connected,
    entries,
    last_cursor,
    logged_in,
    read,
    tell_nobody,
)
from tests.contract.suite.stage import Ability, Stage, Subject, needs


class Sessions(Subject):
    async def test_session_is_used_again(self, stage: Stage) -> None:
        talk = await stage.thread()
        said = await stage.say(talk, "hello")
        async with stage.platform.connect(stage.account) as connection:
            session = await connection.login(tell_nobody)
            assert connection.session == session
        async with connected(stage, session) as connection:
            assert said in entries(await read(connection))

    async def test_wrong_credentials(self, stage: Stage) -> None:
        async with stage.platform.connect(stage.wrong) as connection:
            with pytest.raises(LoginFailed) as caught:
                await connection.login(tell_nobody)
        assert caught.value.permanent
        for name, secret in stage.wrong.credentials.items():
            if secret != stage.account.credentials.get(name):
                assert str(secret) not in str(caught.value)

    async def test_no_session(self, stage: Stage) -> None:
        async with stage.platform.connect(stage.account) as connection:
            with pytest.raises(LoginExpired):
                await read(connection)

    @needs(Ability.SESSIONS)
    async def test_session_that_was_ended(self, stage: Stage) -> None:
        await stage.thread()
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            await stage.log_out(connection.session)
            for since in ("", cursor):
                with pytest.raises(LoginExpired):
                    await read(connection, since)
            await connection.login(tell_nobody)
            await read(connection, cursor)

    async def test_password_was_changed(self, stage: Stage) -> None:
        await stage.thread()
        async with logged_in(stage) as connection:
            session = connection.session
            cursor = last_cursor(await read(connection))
            await stage.lock_out()
        async with connected(stage, session) as connection:
            with pytest.raises(LoginExpired):
                await read(connection, cursor)
            with pytest.raises(LoginFailed):
                await connection.login(tell_nobody)

    async def test_server_is_away(self, stage: Stage) -> None:
        async with stage.platform.connect(stage.away) as connection:
            with pytest.raises(PlatformUnavailable):
                await connection.login(tell_nobody)

    @pytest.mark.parametrize("cursor", ["nonsense", "{}x", '{"since": 7}', "[]"])
    async def test_cursor_that_is_none(self, stage: Stage, cursor: str) -> None:
        async with logged_in(stage) as connection:
            with pytest.raises(CursorInvalid):
                await read(connection, cursor)

    @needs(Ability.STALE_CURSORS)
    async def test_cursor_that_the_platform_forgot(self, stage: Stage) -> None:
        """Everything is read again, under the same ids."""
        talk = await stage.thread()
        await stage.say_many(talk, [f"m{n}" for n in range(60)])
        async with logged_in(stage) as connection:
            batches = await read(connection)
            known = entries(batches)
            late = await stage.say(talk, "meanwhile")
            with pytest.raises(CursorInvalid):
                await read(connection, stage.stale(last_cursor(batches)))
            batches += await read(connection)
        assert set(entries(batches)) == {*known, late}
