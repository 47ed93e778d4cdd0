"""Performing a login that somebody asked for, where the account is watched [S11]."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from django.utils import timezone

from sync import services
from sync.engine.problems import redacted
from sync.errands.base import Check
from sync.errors import LoginCancelled, LoginFailed
from sync.services.logins import LoginTask
from sync.types import LoginSessionState, LoginStep

log = logging.getLogger(__name__)

ASK_S = 1.0  # how often it is asked whether somebody has given it up


async def log_in(check: Check) -> None:
    """Perform the account's open login session.

    What the platform can't be asked now is tried again by the next check, for as long as the
    session lasts. Raises `LoginFailed` when the account is left without a session; one that it had
    before goes on otherwise.
    """
    lease = check.run.lease
    task = await check.in_database(services.begin_login, lease, timezone.now())
    if task is None:
        return
    about = {"account_id": lease.account_id, "login_session_id": task.session_id}
    try:
        session = await _perform(check, task)
    except LoginCancelled as given_up:
        log.info("login given up", extra=about)
        await check.in_database(services.expire_logins, timezone.now())
        _go_on(check, str(given_up))
    except LoginFailed as failed:
        error = redacted(str(failed), check.run.ref)
        log.warning("login failed: %s", error, extra=about)
        await _end(check, task, LoginSessionState.FAILED, error)
        _go_on(check, error)
    else:
        log.info("logged in", extra=about)
        await _end(check, task, LoginSessionState.SUCCESS, "", session)


async def _perform(check: Check, task: LoginTask) -> dict[str, object]:
    """The new session. Asks meanwhile whether it is still wanted: an adapter may have nothing to
    tell for minutes. Raises `LoginCancelled`, and as `Connection.login`."""

    async def tell(step: LoginStep) -> Mapping[str, object] | None:
        return await check.in_database(
            services.tell_login, check.run.lease, task.session_id, step, timezone.now()
        )

    login = asyncio.ensure_future(check.connection.login(tell))
    try:
        while not (await asyncio.wait({login}, timeout=ASK_S))[0]:
            await check.in_database(services.require_login_wanted, task.session_id, timezone.now())
        return login.result()
    finally:
        if not login.done():
            login.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await login


async def _end(
    check: Check,
    task: LoginTask,
    state: LoginSessionState,
    message: str,
    session: dict[str, object] | None = None,
) -> None:
    await check.in_database(
        services.end_login,
        check.run.lease,
        task.session_id,
        state,
        message,
        timezone.now(),
        session,
    )


def _go_on(check: Check, error: str) -> None:
    """With the session that the account had before. Raises `LoginFailed` if it had none."""
    if not check.connection.session:
        raise LoginFailed(error)
