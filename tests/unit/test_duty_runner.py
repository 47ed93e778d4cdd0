"""A duty that fails is tried again, and says so once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from lifecycle import duty_runner
from lifecycle.duty_runner import DutyRunner
from tests.waiting import eventually


class Sickly:
    """Fails three times in the same way, once in another, and then works."""

    name = "sickly"
    channels: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.runs = 0

    def run(self, now: datetime) -> datetime:
        self.runs += 1
        if self.runs <= 3:
            raise ConnectionError("away")
        if self.runs == 4:
            raise KeyError("a mistake")
        return now + timedelta(hours=1)


def test_each_kind_of_failure_is_said_once_and_so_is_the_recovery(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(duty_runner, "AFTER_FAILURE", timedelta(0))
    monkeypatch.setattr(duty_runner, "close_old_connections", lambda: None)
    runner = DutyRunner(Sickly())
    runner.start()
    try:
        eventually(lambda: "works again" in caplog.text)
    finally:
        runner.end()
    assert caplog.text.count("duty sickly failed, trying again") == 2
    assert "KeyError: 'a mistake'" in caplog.text
    assert caplog.text.count("duty sickly works again") == 1
