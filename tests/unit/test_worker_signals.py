"""What a worker reports of itself, and what a pool child must not."""

from __future__ import annotations

import os
import threading

import pytest
from django.db import OperationalError

from lifecycle import worker_signals
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
        away = [OperationalError("away")] * times
        reporter._write(lambda: _raise_next(away))  # noqa: B023 - called here
    assert waits == [1, 2, 3, 4, 1, 2]


def _raise_next(errors: list[OperationalError]) -> None:
    if errors:
        raise errors.pop()
