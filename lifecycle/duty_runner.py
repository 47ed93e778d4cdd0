"""Runs one duty on a thread of its own, for as long as this master leads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from django.db import close_old_connections
from django.utils import timezone

from lifecycle.duties import Duty

log = logging.getLogger(__name__)

AFTER_FAILURE = timedelta(seconds=5)
# A notification is seldom alone, and the master has more urgent things to do with it than we.
BREATH_S = 0.02


class DutyRunner:
    def __init__(self, duty: Duty, leads: Callable[[], bool] = lambda: True) -> None:
        self.duty, self._leads = duty, leads
        self._wake, self._breath = threading.Event(), threading.Event()
        self._ended = False
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name=f"duty-{duty.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def notified(self, channel: str) -> None:
        if channel in self.duty.channels:
            self._wake.set()

    def end(self) -> None:
        """No further round; one that is under way may finish."""
        self._ended = True
        self._wake.set()
        self._breath.set()

    def _run(self) -> None:
        while not self._ended and self._leads():
            self._wake.clear()
            now = timezone.now()
            try:
                next_at = self.duty.run(now)
                self._works()
            except Exception as error:
                if self._fails_anew(error):
                    log.exception("duty %s failed, trying again", self.duty.name)
                next_at = timezone.now() + AFTER_FAILURE
            finally:
                close_old_connections()
            if self._wake.wait(max(0.0, (next_at - timezone.now()).total_seconds())):
                self._breath.wait(BREATH_S)

    def _fails_anew(self, error: Exception) -> bool:
        """Said once for each kind of error in a row: it is tried every 5 s, maybe for hours."""
        before, self._failure = self._failure, type(error).__name__
        return self._failure != before

    def _works(self) -> None:
        if self._failure:
            log.info("duty %s works again", self.duty.name)
        self._failure = ""
