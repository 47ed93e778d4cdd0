"""The consumer of this Celery worker, looked at from the reporter's thread.

Everything is read only; what changes the consumer is handed to the main loop, as Celery's own
control command `add_consumer` does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from celery import current_app
from celery.worker import state as celery_state
from kombu import Connection

from lifecycle.consumption import Consumption, Look, judge

log = logging.getLogger(__name__)

BROKER_TIMEOUT_S = 2
# A broker that hangs must not hold up the next heartbeat.
BROKER_PATIENCE = {
    "max_retries": 1,
    "socket_connect_timeout": BROKER_TIMEOUT_S,
    "socket_timeout": BROKER_TIMEOUT_S,
}
NOT_JUDGED = Look(consumed=None)


class ConsumerWatch:
    def __init__(self, *, works_in_loop: bool) -> None:
        self.works_in_loop = works_in_loop  # a solo pool: it has one slot
        self.demanded: frozenset[str] = frozenset()
        self.draining = False
        self._consumer: Any = None
        self._received = 0
        self._before: Look | None = None
        self._broker: Connection | None = None

    # --- told by Celery's signals, in the main loop ---

    def demand(self, worker: Any) -> None:
        """All that the command line selected: the config's queues and the worker's own."""
        self.demanded = frozenset(worker.app.amqp.queues.consume_from)

    def attach(self, consumer: Any) -> None:
        """The worker is ready. The same consumer also serves after each reconnect."""
        self._consumer = consumer

    def received(self) -> None:
        self._received += 1

    def drains(self) -> None:
        self.draining = True

    # --- in the reporter's thread ---

    def consumption(self, *, loop_turns: bool) -> Consumption:
        """What is consumed, and what should be; asks for what is missing to be added back."""
        now = self._look() if loop_turns and not self.ends() else NOT_JUDGED
        found = judge(self.demanded, self._before, now)
        self._before = now
        if found.missing:
            self._add_back(found.missing)
        return found

    # --- in any thread ---

    def ends(self) -> bool:
        """Draining, whoever asked for it: a signal, or the control command `shutdown`."""
        stops = (celery_state.should_stop, celery_state.should_terminate)
        return self.draining or any(stop is not None for stop in stops)

    def is_ready(self) -> bool:
        return self._consumer is not None

    def consumed_queues(self) -> frozenset[str]:
        tasks = getattr(self._consumer, "task_consumer", None)
        if tasks is None:  # not ready yet, or between two connections
            return frozenset()
        return frozenset(q.name for q in tasks.queues if tasks.consuming_from(q.name))

    def reconnects(self) -> int:
        """How often the consumer has found its broker again."""
        return max(0, getattr(self._consumer, "connected", 0) - 1)

    # --- in the reporter's thread ---

    def _look(self) -> Look:
        tasks = getattr(self._consumer, "task_consumer", None)
        if tasks is None:  # not ready yet, or between two connections
            return NOT_JUDGED
        consumed = self.consumed_queues()
        is_free = self._is_free(tasks)
        at_rest = is_free and self._before is not None and self._before.received == self._received
        waiting = self._not_empty() if at_rest else frozenset()
        return Look(consumed, is_free, self._received, waiting)

    def _is_free(self, tasks: Any) -> bool:
        """Whether another message should be fetched now: a slot, and room for it in the prefetch
        window. Transports that count what was delivered (Redis) know best."""
        slots = 1 if self.works_in_loop else self._consumer.pool.num_processes
        window = self._consumer.qos.value if self._consumer.qos else 0
        delivered = getattr(tasks.channel, "qos", None)
        return (
            len(celery_state.active_requests) < slots
            and (not window or len(celery_state.reserved_requests) < window)
            and (delivered is None or bool(delivered.can_consume()))
        )

    def _not_empty(self) -> frozenset[str]:
        """The demanded queues that hold messages; none when the broker does not tell in time."""
        if self._broker is None:
            self._broker = current_app.connection_for_read(transport_options=BROKER_PATIENCE)
        away: tuple[type[BaseException], ...] = (OSError, *self._broker.connection_errors)
        try:
            return frozenset(name for name in self.demanded if _length(self._broker, name))
        except away as error:
            log.info("could not ask the broker how long the queues are: %s", error)
            self.close()
            return frozenset()

    def close(self) -> None:
        if self._broker is not None:
            self._broker.collect()
            self._broker = None

    def _add_back(self, names: Iterable[str]) -> None:
        for name in names:
            log.warning("does not consume %s any more: adding it back", name)
            self._consumer.call_soon(add_consumer, self._consumer, name)


def _length(broker: Connection, name: str) -> int:
    """Messages that wait in a queue. 0 also for one that is not there: Redis keeps no empty ones.

    The channel is for this once, as AMQP closes it when there is no such queue.
    """
    channel: Any
    with broker.channel() as channel:
        try:
            return int(channel.queue_declare(queue=name, passive=True).message_count)
        except broker.channel_errors:
            return 0


def add_consumer(consumer: Any, name: str) -> None:
    """In the main loop. Also selects the queue again: Celery's command leaves that undone, and the
    next reconnect would lose it once more."""
    if consumer.task_consumer is None:  # the connection went meanwhile; its next look asks again
        return
    queues = consumer.app.amqp.queues
    if name in queues:
        queues.select_add(queues[name])
    consumer.add_task_queue(name)
