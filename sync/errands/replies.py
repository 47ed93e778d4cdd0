"""Sending what operators have queued, each reply once [S12].

The attempt is counted and committed before the platform is asked. Whatever cuts it off then leaves
a doubt, and the next attempt asks the platform for the reply before it sends it again: unless
sending is idempotent there (`sends_once`), or it refused the reply for good.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from django.utils import timezone

from sync import services
from sync.chance import random
from sync.engine.problems import redacted
from sync.errands.base import Check
from sync.errors import (
    LoginExpired,
    OutcomeUnknown,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
    Unreachable,
)
from sync.platforms.base import Connection
from sync.services.attempts import SETTLE_S, Attempt, wait_s

log = logging.getLogger(__name__)

ANSWER_S = 60.0  # for the platform's answer
LAST_CHANCE_S = 4.0  # for an answer that is under way when the check is ended


async def send_replies(check: Check) -> None:
    """Send all whose turn it is, the oldest first.

    What the platform refuses is that reply's failure. Raises what else keeps the platform from
    answering, after noting the doubt.
    """
    lease = check.run.lease
    while attempt := await check.in_database(services.begin_attempt, lease, timezone.now()):
        await _attempt(check, attempt)


async def _attempt(check: Check, attempt: Attempt) -> None:
    about = {"account_id": check.run.lease.account_id, "reply_id": attempt.reply_id}
    try:
        external_id = await _sent(check, attempt)
    except OutcomeUnknown as unknown:
        error = redacted(str(unknown), check.run.ref)
        log.warning("it can't be asked whether the reply was sent: %s", error, extra=about)
        await check.in_database(services.record_unknown, attempt, error)
    except RequestRejected as refused:
        error = redacted(str(refused), check.run.ref)
        log.warning("reply refused: %s", error, extra=about)
        await check.in_database(
            services.record_refused,
            attempt,
            error,
            leaves_doubt=attempt.in_doubt and check.platform.sends_once,
        )
    except NotImplementedError:
        await check.in_database(services.record_refused, attempt, "this platform takes no replies")
    except Exception as error:
        await _note_doubt(check, attempt, error)
        raise
    else:
        if external_id is None:
            log.info("reply taken back: the platform does not have it", extra=about)
            await check.in_database(services.record_absent, attempt)
            return
        log.info("reply sent", extra=about)
        await check.in_database(services.record_sent, attempt, external_id, timezone.now())


async def _sent(check: Check, attempt: Attempt) -> str | None:
    """The platform's id of the reply, None if one that was taken back is not there. A request under
    way is not cut off with the check: its answer is waited for shortly, and counts."""
    asked = asyncio.ensure_future(_ask(check, attempt))
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        done, _pending = await asyncio.wait({asked}, timeout=LAST_CHANCE_S)
        was_answered = done and not asked.cancelled() and asked.exception() is None
        if was_answered and (external_id := asked.result()):
            await check.in_database(services.record_sent, attempt, external_id, timezone.now())
        asked.cancel()
        raise


async def _ask(check: Check, attempt: Attempt) -> str | None:
    connection: Connection = check.connection
    try:
        async with asyncio.timeout(ANSWER_S):
            if attempt.is_taken_back:
                return await _found(connection, attempt)
            if attempt.in_doubt and not check.platform.sends_once:
                found = await _found(connection, attempt)
                if found is not None:
                    return found
            return await connection.send(attempt.outgoing)
    except TimeoutError:
        raise PlatformUnavailable("the platform did not answer in time") from None


async def _found(connection: Connection, attempt: Attempt) -> str | None:
    """As `Connection.find_sent`. Raises `OutcomeUnknown` where it refuses to say."""
    try:
        return await connection.find_sent(attempt.outgoing)
    except RequestRejected as refused:
        raise OutcomeUnknown(str(refused)) from refused
    except NotImplementedError:
        raise OutcomeUnknown("this platform can't be asked what it has") from None


async def _note_doubt(check: Check, attempt: Attempt, error: Exception) -> None:
    """The next attempt is made when a lost answer has settled and the platform may answer."""
    was_not_sent = isinstance(error, RateLimited | LoginExpired | Unreachable)
    known = isinstance(error, PlatformError)
    text = str(error) if known else f"unexpected {type(error).__name__}; see the worker's log"
    await check.in_database(
        services.record_doubt,
        attempt,
        redacted(text or type(error).__name__, check.run.ref),
        timezone.now() + timedelta(seconds=_wait_s(check, attempt, error)),
        was_not_sent=was_not_sent and not attempt.in_doubt,
    )


def _wait_s(check: Check, attempt: Attempt, error: Exception) -> float:
    match error:
        case LoginExpired():  # the check logs in anew and comes back at once
            return 0.0
        case RateLimited():
            return wait_s(attempt, random(), error.retry_after_s)
        case Unreachable():
            return wait_s(attempt, random(), 0.0)
        case _:
            return wait_s(attempt, random(), 0.0 if check.platform.sends_once else SETTLE_S)
