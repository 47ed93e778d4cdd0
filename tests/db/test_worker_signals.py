"""What a worker says of its main loop: it waits for its broker, or it hangs [L5, L9]."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import current_app

from lifecycle import queries, services
from lifecycle.consumer_watch import BROKER_TIMEOUT_S
from lifecycle.models import WorkerConfig
from lifecycle.types import Instance, State
from lifecycle.worker_signals import STUCK_S, Reporter


@pytest.fixture
def reporter() -> Reporter:
    """A worker whose loop has been silent for much longer than a hang would be forgiven."""
    made = Reporter(Instance("w", 1), works_in_loop=False)
    made._loop_at = made._broker_away_at = time.monotonic() - 10 * STUCK_S
    return made


def test_a_silent_loop_with_a_broker_that_answers_hangs(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "_broker_answers", lambda: True)
    reporter._look_at_loop()
    assert (reporter._waits_for, reporter._is_stuck) == ("", True)


def test_a_loop_that_has_not_yet_found_its_broker_again_does_not_hang(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[L5] After a long outage the next try to connect may be seconds away."""
    answers = iter([False, True])
    monkeypatch.setattr(reporter, "_broker_answers", lambda: next(answers))
    reporter._look_at_loop()
    assert (reporter._waits_for, reporter._is_stuck) == ("waiting for broker", False)
    reporter._look_at_loop()
    assert (reporter._waits_for, reporter._is_stuck) == ("", False)


def test_a_broker_that_hangs_does_not_hold_up_a_heartbeat(
    reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections and never answers, as a frozen one does."""
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(str(tmp_path / "s"))
        frozen.listen()
        url = f"redis+socket://{tmp_path / 's'}"
        monkeypatch.setattr(current_app.conf, "broker_read_url", url)
        begun = time.monotonic()
        assert not reporter._broker_answers()
        assert time.monotonic() - begun < 4 * BROKER_TIMEOUT_S


@pytest.mark.django_db
def test_one_whose_claim_the_database_lost_says_again_that_it_is_ready(
    make_config: Callable[..., WorkerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """[L10] It was refused before the master claimed it anew: it would be `starting` for ever."""
    make_config(worker_id="w")
    reporter = Reporter(Instance("w", 1), works_in_loop=False)
    monkeypatch.setattr(reporter, "_look_at_consumer", lambda: None)
    reporter.loop_turned()

    def write_all() -> None:
        while not reporter._facts.empty():
            reporter._write(reporter._facts.get())

    reporter.put(reporter.say_ready)
    write_all()
    assert queries.runtime("w").state == State.STOPPED
    services.claim_start("w", 1)
    reporter._beat()
    write_all()
    assert queries.runtime("w").state == State.RUNNING
    reporter._beat()
    assert reporter._facts.empty()
