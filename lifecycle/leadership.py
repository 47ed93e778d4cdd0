"""One master leads [L11]: a session-level advisory lock, held by the connection that also listens.

The lock lives exactly as long as the connection. When the connection is lost, so is the lead, and
`notifications` ends: the caller must stop deciding at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import psycopg
from psycopg import sql

from lifecycle.types import HomeRef

log = logging.getLogger(__name__)

LOCK_KEY = 0x4D757374657231  # "Muster1"
STANDBY_POLL_S = 1.0
CHECK_S = 2.0
CONNECT_OPTIONS: dict[str, Any] = {
    "connect_timeout": 10,
    # A dead peer is noticed within seconds on TCP; ignored on Unix sockets.
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
    # The same on the server's side: it holds the lock of a leader whose host is gone until then.
    "options": "-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
    " -c tcp_user_timeout=4000",
}

# By primary key; the condition reads the runtime rows, one for each worker, once for each lead.
CLAIM_FLEET = """
    INSERT INTO lifecycle_fleethome AS f (id, identity, host, path, since)
    VALUES (1, %(identity)s, %(host)s, %(path)s, now())
    ON CONFLICT (id) DO UPDATE
    SET identity = EXCLUDED.identity, host = EXCLUDED.host, path = EXCLUDED.path, since = now()
    WHERE f.identity = EXCLUDED.identity OR NOT EXISTS (
        SELECT FROM lifecycle_workerruntime
        WHERE state IN ('starting', 'running', 'stopping') OR retiring_generation IS NOT NULL
    )
    RETURNING id
"""


class Leadership:
    """The lead, while it lasts."""

    def __init__(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        self.connection = connection

    def notifications(self) -> Iterator[tuple[str, str]]:
        """(channel, payload) of each notification. Ends when the connection is lost."""
        try:
            while True:
                for notification in self.connection.notifies(timeout=CHECK_S):
                    yield notification.channel, notification.payload
                self.connection.execute("SELECT 1")
        except psycopg.Error as error:
            log.warning("the lead is lost: %s", error)

    def claim_fleet(self, home: HomeRef) -> bool:
        """Whether the workers are this home's from now on: the row of one that is up says that it
        has a process, not where. To a master elsewhere it would look dead, and be started twice.

        By the connection that holds the lead: who has lost that claims nothing. Raises
        `psycopg.Error`.
        """
        return self.connection.execute(CLAIM_FLEET, asdict(home)).fetchone() is not None

    def give_up(self) -> None:
        """Close the connection: another master may lead now."""
        self.connection.close()


def acquire(database_url: str, channels: Sequence[str]) -> Leadership:
    """Wait, for as long as it takes, until this process leads.

    It listens from before it leads: nothing that is notified after its first look is missed.
    """
    standing_by = away = False
    while True:
        try:
            connection = psycopg.connect(
                database_url, autocommit=True, application_name="muster-leader", **CONNECT_OPTIONS
            )
            if away:
                log.info("the database answers again")
                away = False
            for channel in channels:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            while True:
                row = connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone()
                if row and row[0]:
                    return Leadership(connection)
                if not standing_by:
                    log.info("another master leads; standing by")
                    standing_by = True
                time.sleep(STANDBY_POLL_S)
        except psycopg.Error as error:
            if not away:  # once for each outage
                log.warning("can't reach the database, trying again: %s", error)
                away = True
            time.sleep(STANDBY_POLL_S)
