"""Whose log files go, and when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from lifecycle import services
from lifecycle.errors import BackendUnavailable
from lifecycle.logs_duty import KEPT, PERIOD, LogsDuty, remove_old_logs
from lifecycle.models import WorkerConfig

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


class Files:
    """The log files of one host: when each worker wrote its last line."""

    def __init__(self, **written: datetime) -> None:
        self.written = written

    def logged_workers(self) -> dict[str, float]:
        return {worker_id: at.timestamp() for worker_id, at in self.written.items()}

    def remove_logs(self, worker_id: str) -> bool:
        return self.written.pop(worker_id, None) is not None


class Away:
    def logged_workers(self) -> dict[str, float]:
        raise BackendUnavailable("the agent does not answer")


def test_files_stay_for_their_time_after_the_deletion(
    make_config: Callable[..., WorkerConfig],
) -> None:
    now, long_ago = timezone.now(), timezone.now() - 30 * DAY
    make_config(worker_id="kept")
    services.delete_config(make_config(worker_id="deleted"), "test")
    services.delete_config(make_config(worker_id="remade"), "test")
    make_config(worker_id="remade")
    names = ("kept", "deleted", "remade", "unknown")
    files = Files(**dict.fromkeys(names, long_ago))
    assert remove_old_logs(files, now + KEPT - DAY) == ["unknown"]  # type: ignore[arg-type]
    assert remove_old_logs(files, now + KEPT + DAY) == ["deleted"]  # type: ignore[arg-type]
    assert set(files.written) == {"kept", "remade"}


def test_what_was_written_lately_stays_though_nobody_knows_the_worker() -> None:
    now = timezone.now()
    files = Files(unknown=now - KEPT + DAY)
    assert remove_old_logs(files, now) == []  # type: ignore[arg-type]


def test_a_host_that_is_away_is_looked_at_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.logs_duty.backends", lambda: {"local": Away()})
    now = timezone.now()
    assert LogsDuty().run(now) == now + PERIOD
