"""The Prometheus series of one worker process, for its own port [L1]."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from celery import signals
from celery.worker import state as celery_state
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lifecycle.consumer_watch import ConsumerWatch

COUNTED = {
    "received": signals.task_received,
    "succeeded": signals.task_success,
    "failed": signals.task_failure,
    "retried": signals.task_retry,
    "revoked": signals.task_revoked,
}


class Tally:
    """Tasks by what became of them, in this process and in the children that its pool forks.

    Each is a counter of the kernel (eventfd(2)): to add is one atomic write, which no child can die
    in the middle of. Reading empties it.
    """

    def __init__(self) -> None:
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self._counters = {state: os.eventfd(0, flags) for state in COUNTED}
        self._totals = dict.fromkeys(COUNTED, 0)
        self._guard = threading.Lock()

    def listen(self) -> None:
        for state, signal in COUNTED.items():
            signal.connect(lambda state=state, **_: self.count(state), weak=False)

    def count(self, state: str) -> None:
        os.eventfd_write(self._counters[state], 1)

    def totals(self) -> dict[str, int]:
        with self._guard:
            for state, counter in self._counters.items():
                try:
                    self._totals[state] += os.eventfd_read(counter)
                except BlockingIOError:  # none since the last time
                    continue
            return dict(self._totals)


class WorkerCollector(Collector):
    """Counts are of this process: they begin at 0 with each start."""

    def __init__(self, worker_id: str, consumer: ConsumerWatch, tally: Tally) -> None:
        self._worker_id, self._consumer, self._tally = worker_id, consumer, tally

    def collect(self) -> Iterator[Metric]:
        tasks = CounterMetricFamily(
            "muster_worker_tasks", "Tasks, by what became of them.", labels=["worker", "state"]
        )
        for state, total in self._tally.totals().items():
            tasks.add_metric([self._worker_id, state], total)
        yield tasks
        yield self._gauge("active_tasks", "Tasks that run.", len(celery_state.active_requests))
        queues = GaugeMetricFamily(
            "muster_worker_consumed_queue", "1 if consumed, else 0.", labels=["worker", "queue"]
        )
        consumed = self._consumer.consumed_queues()
        for name in sorted(self._consumer.demanded | consumed):
            queues.add_metric([self._worker_id, name], int(name in consumed))
        yield queues
        reconnects = CounterMetricFamily(
            "muster_worker_broker_reconnects", "Times the broker was lost.", labels=["worker"]
        )
        reconnects.add_metric([self._worker_id], self._consumer.reconnects())
        yield reconnects

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        made = GaugeMetricFamily(f"muster_worker_{name}", text, labels=["worker"])
        made.add_metric([self._worker_id], value)
        return made


class WorkerMetrics:
    """All series of this process as text: ours, and memory, CPU and descriptors of the main one."""

    def __init__(self, worker_id: str, consumer: ConsumerWatch, tally: Tally) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(WorkerCollector(worker_id, consumer, tally))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)
