"""Sending checks to workers: a reference to a claim, into the worker's own queue.

A message is a hint and may be lost: the claim's lease brings the account back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import kombu.exceptions
from celery import current_app
from kombu.utils.uuid import uuid

from lifecycle.models import own_queue
from sync.tasks import monitor_account

# kombu tries for ever to connect, `retry=False` or not, unless the transport says otherwise.
BROKER_PATIENCE = {
    "max_retries": 1,
    "interval_start": 0.1,
    "interval_step": 0.1,
    "interval_max": 0.2,
    "socket_connect_timeout": 3,
    "socket_timeout": 5,
}
BROKER_ERRORS = (kombu.exceptions.OperationalError, OSError)


class Claim(NamedTuple):
    """The right of one check, good until its account's epoch rises again."""

    account_id: int
    epoch: int
    worker_id: str


class Sender:
    """Sends over one connection, kept from one time to the next."""

    def __init__(self) -> None:
        self._link: Any = None
        self._producer: Any = None

    def send(self, claims: list[Claim], expires: datetime) -> Iterator[int]:
        """Send each claim to its worker; yields how many are out. Worthless after `expires`.

        Raises one of `BROKER_ERRORS` within seconds when the broker is away.
        """
        was_open = self._link is not None
        sent = 0
        try:
            for one in claims:
                self._send(one, expires)
                sent += 1
                yield sent
        except BROKER_ERRORS:
            self.close()
            if sent or not was_open:
                raise
            yield from self.send(claims, expires)  # the connection was old: once more with another

    def _send(self, one: Claim, expires: datetime) -> None:
        producer = self._opened()
        with self._said_by_kombu():
            send_check(producer, one, expires)

    @contextmanager
    def _said_by_kombu(self) -> Iterator[None]:
        """What the broker's own client says, as one of `BROKER_ERRORS`: that it is away, or that it
        answers and takes nothing (a full disk, `maxmemory`, a replica)."""
        try:
            yield
        except (*self._link.connection_errors, *self._link.channel_errors) as error:
            raise kombu.exceptions.OperationalError(str(error)) from error

    def close(self) -> None:
        """Leave the connection; the next one to send opens another."""
        link, self._link, self._producer = self._link, None, None
        if link is not None:
            link.release()

    def _opened(self) -> Any:
        if self._link is None:
            link = current_app.connection_for_write(transport_options=BROKER_PATIENCE)
            link.ensure_connection(max_retries=1, interval_start=0, timeout=3)
            self._link, self._producer = link, current_app.amqp.Producer(link)
        return self._producer


def send_check(producer: Any, one: Claim, expires: datetime) -> None:
    """As `apply_async` would, without its events and signals: it costs a third of the CPU, and
    hundreds are sent each second. The queue is its worker's, which declared it when it started."""
    message = current_app.amqp.as_task_v2(
        uuid(),
        monitor_account.name,
        args=(one.account_id, one.epoch),
        expires=expires,
        ignore_result=True,
    )
    producer.publish(
        message.body,
        exchange="",
        routing_key=own_queue(one.worker_id),
        serializer="json",
        headers=message.headers,
        retry=False,
        **message.properties,
    )
