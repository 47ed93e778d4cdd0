"""Telling the platform what was read here [S10].

Once more after a kill does no harm: a mark says how far, not how much more. It is a courtesy: what
keeps the platform from taking it is never the check's failure.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from sync import store
from sync.engine.problems import redacted
from sync.errands.base import Check
from sync.errors import (
    LoginExpired,
    LoginFailed,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
)
from sync.store import Untold

log = logging.getLogger(__name__)

ANSWER_S = 30.0  # for the platform's answer


async def marks(check: Check) -> None:
    """Tell all that waits. What the platform refuses is not told again; one that it does not answer
    is tried again by a later check, after all others, `store.marks.MOST_ATTEMPTS` times. Raises
    `LoginExpired`, `LoginFailed`, `RateLimited`: the mark waits then.
    """
    while waiting := await check.in_database(store.untold, check.run.lease.account_id):
        for mark in waiting:
            try:
                await _tell(check, mark)
            except (PlatformUnavailable, TimeoutError) as away:
                again = await check.in_database(store.not_told, mark)
                what = "it is tried again" if again else "given up"
                _warn(check, mark, f"the platform can't be told what was read, {what}", away)
                return  # whatever else waits has its turn with the next check
            await check.in_database(store.told, mark)


async def _tell(check: Check, mark: Untold) -> None:
    """Raises what the mark waits for."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await check.connection.mark_read(mark.conversation, mark.message, mark.sent_at)
    except (LoginExpired, LoginFailed, RateLimited, PlatformUnavailable, TimeoutError):
        raise
    except PlatformError as refused:
        _warn(check, mark, "the platform refuses to mark a conversation read", refused)
    except Exception:  # an adapter's mistake must not keep the account from being read
        log.exception("a conversation can't be marked read", extra=_about(check, mark))


def _warn(check: Check, mark: Untold, what: str, error: Exception) -> None:
    said = redacted(str(error) or "no answer in time", check.run.ref)
    log.warning("%s: %s", what, said, extra=_about(check, mark))


def _about(check: Check, mark: Untold) -> dict[str, Any]:
    return {
        "account_id": check.run.lease.account_id,
        "conversation_id": mark.conversation_id,
    }
