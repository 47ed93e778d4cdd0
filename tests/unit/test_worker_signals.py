"""What a worker reports of itself, and what a pool child must not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial

import pytest
from django.db import DataError, Error, InternalError, OperationalError

from lifecycle import worker_signals
from lifecycle.task_failures import Failures
from lifecycle.types import Instance
from lifecycle.worker_signals import Reporter


@pytest.fixture
def reporter(monkeypatch: pytest.MonkeyPatch) -> Reporter:
    monkeypatch.setattr(worker_signals, "BEAT_S", 0.01)
    monkeypatch.setattr(Reporter, "_connect", staticmethod(lambda: None))
    return Reporter(Instance("worker-1", 1), works_in_loop=False)


@pytest.fixture
def beats(reporter: Reporter) -> threading.Event:
    beaten = threading.Event()
    reporter._beat = beaten.set  # type: ignore[method-assign]  # for good: its thread outlives us
    return beaten


def test_the_main_process_beats(reporter: Reporter, beats: threading.Event) -> None:
    reporter.start()
    assert beats.wait(5)


def test_a_pool_child_writes_facts_and_never_beats(
    reporter: Reporter, beats: threading.Event
) -> None:
    """A child hears no heartbeat of the main loop: its word on it would be wrong."""
    reporter._main_pid = os.getpid() + 1
    reporter.start_in_child()
    written = threading.Event()
    reporter.put(written.set)
    assert written.wait(5)
    assert not beats.wait(0.2)


def test_a_solo_pool_has_no_child(reporter: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "_start_thread", lambda: pytest.fail("a second thread"))
    reporter._main_pid = os.getpid()
    reporter.start_in_child()


def test_a_database_that_is_away_is_tried_again_ever_more_seldom(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[L5] The waits themselves: test_patience.py."""
    waits: list[int] = []

    def wait_s(failed: int, random: float) -> float:
        assert 0 <= random < 1
        waits.append(failed)
        return 0.0

    monkeypatch.setattr(worker_signals, "wait_s", wait_s)
    monkeypatch.setattr(worker_signals, "close_old_connections", lambda: None)
    for times in (4, 2):
        away: list[Error] = [OperationalError("away"), InternalError("read-only")] * (times // 2)
        reporter._write(lambda: _raise_next(away))  # noqa: B023 - called here
    assert waits == [1, 2, 3, 4, 1, 2]


def _raise_next(errors: list[Error]) -> None:
    if errors:
        raise errors.pop()


def test_facts_that_never_end_hold_up_no_heartbeat(
    reporter: Reporter, beats: threading.Event
) -> None:
    """A backlog of tasks that fail fast: the worker is not silent, and must not be replaced."""

    def another() -> None:
        if not beats.is_set():
            reporter.put(another)

    another()
    reporter.start()
    assert beats.wait(5)


@pytest.mark.parametrize(
    "error", [DataError("NUL"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate")]
)
def test_a_fact_that_can_never_be_written_is_dropped(
    reporter: Reporter,
    beats: threading.Event,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def wrong() -> None:
        raise error

    written = threading.Event()
    reporter.put(wrong)
    reporter.put(written.set)
    reporter.start()
    assert written.wait(5)
    beats.clear()
    assert beats.wait(5)
    assert [one.exc_info for one in caplog.records if "is dropped" in one.message]


def test_a_heartbeat_that_fails_is_not_the_last(reporter: Reporter) -> None:
    """It reads what is inside of Celery and kombu."""
    errors: list[Exception] = [AttributeError("another kombu")]
    again = threading.Event()

    def beat() -> None:
        if errors:
            raise errors.pop()
        again.set()

    reporter._beat = beat  # type: ignore[method-assign]
    reporter.start()
    assert again.wait(5)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Failures]:
    rows: list[Failures] = []
    monkeypatch.setattr(
        "lifecycle.services.tasks_failed", lambda _instance, failures: rows.append(failures)
    )
    return rows


def test_tasks_that_fail_fast_are_told_together(
    reporter: Reporter, beats: threading.Event, told: list[Failures]
) -> None:
    reporter.start()
    threads = [threading.Thread(target=partial(fail, reporter.task_failed)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reporter.task_failed("last")
    reporter.flush(5)
    assert sum(one.count for one in told) == 401
    assert len(told) <= 10
    assert told[-1].error == "last"


def fail(tell: Callable[[str], None]) -> None:
    for number in range(100):
        tell(f"error {number}")


def test_a_failure_is_told_without_waiting_for_a_heartbeat(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a pool child, which has none, wakes for it."""
    told = threading.Event()
    monkeypatch.setattr("lifecycle.services.tasks_failed", lambda _instance, _failures: told.set())
    reporter._main_pid = os.getpid() + 1
    reporter.task_failed("the parent's, which the parent tells")
    reporter.start_in_child()
    assert not reporter._failed
    idle = threading.Event()
    reporter.put(idle.set)
    assert idle.wait(5)
    reporter.task_failed("mine")
    assert told.wait(5)
