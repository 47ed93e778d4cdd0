"""Telling the platform what was read here [S10].

Once more after a kill does no harm: a mark says how far, not how much more.
"""

from __future__ import annotations

import logging

from sync import store
from sync.engine.problems import redacted
from sync.errands.base import Check
from sync.errors import LoginExpired, PlatformError, PlatformUnavailable, RateLimited

log = logging.getLogger(__name__)


async def marks(check: Check) -> None:
    """Tell all that waits. What keeps the platform from answering ends the check, and the mark
    waits for the next one. Whatever else it says is about this mark, which is not told again: it
    must not stand in front of reading for ever."""
    lease = check.run.lease
    while waiting := await check.in_database(store.untold, lease.account_id):
        for mark in waiting:
            try:
                await check.connection.mark_read(mark.conversation, mark.message, mark.sent_at)
            except (LoginExpired, PlatformUnavailable, RateLimited):
                raise
            except PlatformError as refused:
                log.warning(
                    "the platform refuses to mark a conversation read: %s",
                    redacted(str(refused), check.run.ref),
                    extra={
                        "account_id": lease.account_id,
                        "conversation_id": mark.conversation_id,
                    },
                )
            await check.in_database(store.told, mark)
