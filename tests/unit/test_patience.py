"""2 s, growing to 10 s, with jitter: the waits, and a worker's consumer that keeps to them [L5]."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery import current_app
from celery.exceptions import WorkerShutdown
from celery.worker import state as celery_state
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import OperationalError

from lifecycle.patience import FIRST_S, JITTER, LONGEST_S, wait_s
from lifecycle.patient_consumer import Consumer


def test_waits_grow_from_2_to_10_seconds() -> None:
    assert [wait_s(failed, 0.0) for failed in range(1, 7)] == [2, 4, 8, 10, 10, 10]
    assert wait_s(1_000_000, 0.0) == LONGEST_S


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_jitter_never_makes_a_wait_longer_nor_much_shorter(failed: int, random: float) -> None:
    assert FIRST_S * (1 - JITTER) <= wait_s(failed, random) <= LONGEST_S
    assert wait_s(failed, random) >= wait_s(failed, 0.0) * (1 - JITTER)


class AwayBroker:
    """Connections that fail a number of times, as kombu says it."""

    def __init__(self, fails: int, alt: tuple[str, ...] = ()) -> None:
        self.fails, self.alt = fails, list(alt)
        self.tries: list[int] = []
        self.switched = 0

    def ensure_connection(self, max_retries: int) -> None:
        self.tries.append(max_retries)
        if len(self.tries) <= self.fails:
            raise OperationalError("refused")

    def maybe_switch_next(self) -> None:
        self.switched += 1

    def as_uri(self) -> str:
        return "redis://:**@h/0"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(Consumer, "_wait", staticmethod(waited.append))
    return waited


def test_workers_use_it() -> None:
    assert current_app.conf.worker_consumer == "lifecycle.patient_consumer:Consumer"
    assert current_app.conf.broker_connection_timeout == 10


@pytest.mark.parametrize("alternatives", [(), ("a", "b", "c")])
def test_a_consumer_waits_for_its_broker(waits: list[float], alternatives: tuple[str, ...]) -> None:
    broker = AwayBroker(6, alternatives)
    consumer: Any = Consumer.__new__(Consumer)
    assert consumer.ensure_connected(broker) is broker
    assert set(broker.tries) == {max(0, len(alternatives) - 1)}
    assert broker.switched == 6
    for waited, longest in zip(waits, (2, 4, 8, 10, 10, 10), strict=True):
        assert longest * (1 - JITTER) < waited <= longest
    assert len({round(waited / wait_s(n, 0.0), 9) for n, waited in enumerate(waits, 1)}) > 1
    assert not consumer.first_connection_attempt


def test_a_worker_that_shall_end_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_seconds: float) -> None:
        monkeypatch.setattr(celery_state, "should_stop", 0)

    monkeypatch.setattr(celery_state, "should_stop", None)
    monkeypatch.setattr(time, "sleep", sleep)
    consumer = Consumer.__new__(Consumer)
    broker: Any = AwayBroker(1000)
    with pytest.raises(WorkerShutdown):
        consumer.ensure_connected(broker)
    assert len(broker.tries) == 1
