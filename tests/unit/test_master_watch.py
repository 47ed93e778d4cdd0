"""The master goes on hearing of its workers, whatever a backend says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import cast

import pytest

from lifecycle.backends.base import Backend, BackendEvent, Snapshot
from lifecycle.errors import BackendUnavailable
from lifecycle.master import Master, Observed, loop
from lifecycle.master.items import Lost
from lifecycle.types import DeploymentType

SHOWN = Snapshot((), ())


class Sayer:
    """Shows what there is, then fails; the next time it is as quiet as workers that are well."""

    def __init__(self, error: Exception) -> None:
        self.errors = [error]

    def watch(self) -> Iterator[BackendEvent]:
        yield SHOWN
        if self.errors:
            raise self.errors.pop()
        threading.Event().wait()  # as long as the thread of the master: for ever


@pytest.mark.parametrize(
    "error", [BackendUnavailable("the agent is away"), TypeError("a field of a newer agent")]
)
def test_a_backend_that_failed_is_watched_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "RETRY", timedelta(0))
    local = DeploymentType.LOCAL
    backend = cast(Backend, Sayer(error))
    master = Master({local: backend})
    threading.Thread(target=master._watch, args=(local, backend), daemon=True).start()
    said = [master.items.get(timeout=5) for _ in range(3)]
    assert [one.event for one in said if isinstance(one, Observed)] == [SHOWN, SHOWN]
    assert said[1] == Lost(local)
    assert str(error) in caplog.text
