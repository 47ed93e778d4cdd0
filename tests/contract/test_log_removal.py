"""Log files of a worker are removed by its agent, and never under a process."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lifecycle.errors import BackendUnavailable
from tests.host import Host, eventually, running_host


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as made:
        yield made


def test_the_files_of_a_worker_go_once_it_is_done_with(host: Host) -> None:
    begun = time.time()
    alive = host.start("lines=3")
    eventually(lambda: len(host.lines()) == 3, "it is up")
    with pytest.raises(BackendUnavailable, match="not done with"):
        host.backend.remove_logs("worker-1")
    host.backend.stop(alive.instance, graceful=True, timeout_s=5)
    host.gone(alive.instance)
    with pytest.raises(BackendUnavailable, match="not done with"):
        host.backend.remove_logs("worker-1")
    host.backend.acknowledge(alive.instance)

    written = host.backend.logged_workers()
    assert list(written) == ["worker-1"]
    assert begun - 1 <= written["worker-1"] <= time.time()
    assert host.backend.remove_logs("worker-1") is True
    assert host.backend.remove_logs("worker-1") is False
    assert host.backend.logged_workers() == {}
    assert list((host.home / "logs" / "workers").iterdir()) == []


def test_a_removal_that_was_killed_is_completed_by_the_next_one(host: Host) -> None:
    leftover = host.home / "logs" / "workers" / ".removed-old-12345678"
    leftover.mkdir(parents=True)
    (leftover / "stdout.log").write_text("x")
    assert host.backend.logged_workers() == {}
    assert host.backend.remove_logs("another") is False
    assert not leftover.exists()


@pytest.mark.parametrize("worker_id", ["", "..", "../../etc", ".removed-x", "a/b"])
def test_nothing_else_is_ever_removed(host: Host, worker_id: str) -> None:
    with pytest.raises(BackendUnavailable, match="worker id"):
        host.backend.remove_logs(worker_id)
