"""What a worker sees of its consumer [L9]: the edge to Celery, with a consumer that is made up and
queues that are Celery's own."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker import state as celery_state

from lifecycle.consumer_watch import ConsumerWatch, add_consumer
from lifecycle.consumption import Consumption


class Tasks:
    """Kombu's consumer: queues, and which of them are consumed."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.channel = SimpleNamespace(qos=SimpleNamespace(can_consume=lambda: True))

    @property
    def queues(self) -> list[Any]:
        return [SimpleNamespace(name=name) for name in (*self.names, "declared-only")]

    def consuming_from(self, name: str) -> bool:
        return name in self.names


class Consumer:
    """Celery's consumer, whose main loop takes up at once what it is given."""

    def __init__(self, app: Celery, *names: str) -> None:
        self.app = app
        self.task_consumer: Tasks | None = Tasks(set(names))
        self.pool = SimpleNamespace(num_processes=2)
        self.qos = SimpleNamespace(value=2)
        self.added: list[str] = []

    def call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        function(*arguments)

    def add_task_queue(self, name: str) -> None:
        self.added.append(name)
        assert self.task_consumer
        self.task_consumer.names.add(name)


@pytest.fixture
def consumer() -> Consumer:
    app = Celery(broker="memory://", set_as_current=False)
    app.amqp.queues.select_add("default")  # type: ignore[arg-type]  # a name does as well
    app.amqp.queues.select(["default"])
    app.amqp.queues.select_add("news")  # type: ignore[arg-type]
    return Consumer(app, "default", "news")


@pytest.fixture
def watch(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> ConsumerWatch:
    made = ConsumerWatch(works_in_loop=False)
    made.demand(SimpleNamespace(app=consumer.app))
    made.attach(consumer)
    monkeypatch.setattr(made, "_not_empty", lambda: frozenset({"news"}))
    return made


def looks(watch: ConsumerWatch, count: int = 2) -> Consumption:
    found = Consumption()
    for _ in range(count):
        found = watch.consumption(loop_turns=True)
    return found


def test_demanded_is_what_the_command_line_selected(watch: ConsumerWatch) -> None:
    assert watch.demanded == {"default", "news"}


def test_a_cancelled_queue_is_added_back_and_kept_over_the_next_reconnect(
    watch: ConsumerWatch, consumer: Consumer
) -> None:
    """As Celery's `cancel_consumer` does it: deselected, and consumed no more."""
    consumer.app.amqp.queues.deselect(["news"])
    assert consumer.task_consumer
    consumer.task_consumer.names.remove("news")
    assert looks(watch).missing == ("news",)
    assert consumer.added == ["news"]
    assert set(consumer.app.amqp.queues.consume_from) == {"default", "news"}
    assert looks(watch).missing == ()


def test_nothing_is_added_between_two_connections(consumer: Consumer) -> None:
    consumer.task_consumer = None
    add_consumer(consumer, "news")
    assert consumer.added == []


@pytest.mark.parametrize("how", ["draining", "should_stop", "should_terminate", "silent", "away"])
def test_who_drains_or_waits_is_not_judged_and_gets_nothing_back(
    watch: ConsumerWatch, consumer: Consumer, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert consumer.task_consumer
    consumer.task_consumer.names.clear()
    if how == "draining":
        watch.drains()
    elif how == "away":
        consumer.task_consumer = None
    elif how != "silent":
        monkeypatch.setattr(celery_state, how, 0)  # exit code 0 is an order, too
    for _ in range(3):
        assert watch.consumption(loop_turns=how != "silent") == Consumption()
    assert consumer.added == []


def test_free_and_fed_nothing(watch: ConsumerWatch) -> None:
    """The first look sees that it is free, the second asks for lengths, the third says it."""
    assert looks(watch, 2).unfetched == ()
    assert looks(watch, 1).unfetched == ("news",)
    watch.received()
    assert looks(watch, 1).unfetched == ()


def test_a_pool_with_all_slots_taken_is_well_for_ever(
    watch: ConsumerWatch, consumer: Consumer
) -> None:
    consumer.pool.num_processes = 0
    assert looks(watch, 5).unfetched == ()


def test_a_closed_prefetch_window_is_no_illness(watch: ConsumerWatch, consumer: Consumer) -> None:
    assert consumer.task_consumer
    consumer.task_consumer.channel.qos.can_consume = lambda: False
    assert looks(watch, 5).unfetched == ()


def test_a_broker_that_does_not_answer_is_no_illness(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Celery(broker="redis+socket:///nowhere/valkey.sock", set_as_current=False)
    monkeypatch.setattr("lifecycle.consumer_watch.current_app", away)
    watch = ConsumerWatch(works_in_loop=False)
    watch.demand(SimpleNamespace(app=consumer.app))
    watch.attach(consumer)
    assert looks(watch, 3) == Consumption(("default", "news"))


def test_lengths_are_asked_of_the_broker(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifecycle.consumer_watch.current_app", consumer.app)
    watch = ConsumerWatch(works_in_loop=False)
    watch.demand(SimpleNamespace(app=consumer.app))
    watch.attach(consumer)
    assert looks(watch, 3).unfetched == ()  # neither queue exists
    consumer.app.send_task("anything", queue="news")
    assert looks(watch, 2).unfetched == ("news",)
    watch.close()
