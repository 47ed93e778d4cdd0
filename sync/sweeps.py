"""The master's duties for what people asked for and what went wrong: each is a short sweep."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings

from sync import queries, services
from sync.services import ACCOUNTS

log = logging.getLogger(__name__)

LOGINS_S = 30.0
LETTERS_S = 60.0
REMINDED = timedelta(hours=1)


class ExpireLogins:
    """Ends login sessions whose time is over, also when no worker is there to do it [S11]."""

    name = "expire logins"
    channels: tuple[str, ...] = (ACCOUNTS,)

    def run(self, now: datetime) -> datetime:
        """Returns when the next session's time is over, at most 30 s from now."""
        next_at = services.expire_logins(now)
        latest = now + timedelta(seconds=LOGINS_S)
        return min(next_at, latest) if next_at else latest


class WatchDeadLetters:
    """Says in the log that dead letters grow: when it begins, and each hour while it lasts [S6]."""

    name = "watch dead letters"
    channels: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._said_at: datetime | None = None

    def run(self, now: datetime) -> datetime:
        figures = queries.dead_letter_figures(now)
        if not figures.alarm:
            if self._said_at is not None:
                log.info("dead letters grow no more; %s are open", figures.open)
            self._said_at = None
        elif self._said_at is None or now >= self._said_at + REMINDED:
            log.error(
                "dead letters grow: %s new within an hour (alarm at %s), %s open; by account: %s",
                *(figures.recent, settings.MUSTER_DEAD_LETTER_ALARM, figures.open),
                ", ".join(f"{name} {n}" for _id, name, _on, n in queries.growing_dead_letters(now)),
            )
            self._said_at = now
        return now + timedelta(seconds=LETTERS_S)
