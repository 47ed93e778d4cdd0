"""Celery's consumer (setting `worker_consumer`), which reconnects as [L5] has it.

Celery's own has kombu try again after 2, 4, … 28, 30, 30 s, all workers at one time, and passes no
other waits on.
"""

from __future__ import annotations

import logging
import random
import time

from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection
from kombu.exceptions import OperationalError

from lifecycle.patience import wait_s

log = logging.getLogger(__name__)

LOOK_S = 1.0  # how often a wait looks whether the worker shall end


class Consumer(consumer.Consumer):
    connected = 0  # times

    def connect(self) -> Connection:
        made = super().connect()
        self.connected += 1
        return made

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, however long it takes; each broker of a list is tried before a wait. Raises
        `WorkerShutdown` and `WorkerTerminate` when the worker shall end."""
        failed = 0
        while True:
            maybe_shutdown()
            try:
                conn.ensure_connection(max_retries=len(conn.alt) - 1 if conn.alt else 0)
            except OperationalError as error:
                conn.maybe_switch_next()  # after the last one of a list, kombu leaves that to us
                failed += 1
                pause_s = wait_s(failed, random.random())  # noqa: S311 - no secret
                log.warning(
                    "can't connect to %s: %s; try %d in %.1f s",
                    *(conn.as_uri(), error, failed + 1, pause_s),
                )
                self._wait(pause_s)
            else:
                self.first_connection_attempt = False
                return conn

    @staticmethod
    def _wait(pause_s: float) -> None:
        while pause_s > 0:
            maybe_shutdown()
            time.sleep(min(pause_s, LOOK_S))
            pause_s -= LOOK_S
