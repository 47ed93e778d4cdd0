"""What a worker reports of itself, and what a pool child must not."""

from __future__ import annotations

import os
import threading

import pytest

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
