"""A host with a real agent and tiny workers, as tests drive it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lifecycle.backends.base import LogStart, Snapshot
from lifecycle.backends.local import LocalBackend
from lifecycle.errors import BackendUnavailable
from lifecycle.logs.lines import last_lines
from lifecycle.types import Alive, Gone, Instance, Pool, WorkerSpec
from tests.processes import kill_all, processes_of
from tests.waiting import eventually_nothing

T = TypeVar("T")
PATIENCE_S = 20.0


def eventually(look: Callable[[], T | None], what: str) -> T:
    """The first true value that `look` gives."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := look():
            return found
        threading.Event().wait(0.01)
    raise AssertionError(f"did not happen: {what}")


class Host:
    """One host with its agent, as a test drives it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "agent.sock"
        self.backend = LocalBackend(self.socket)
        self.agent: subprocess.Popen[bytes] | None = None

    def start_agent(self, *options: str) -> None:
        """`options`: how long it waits for its zygote, in seconds."""
        module = [sys.executable, "-m", "tests.tiny_agent"]
        command = [*module, str(self.home), str(self.socket), *options]
        with (self.home / "agent.log").open("ab") as log:
            self.agent = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._answers, f"the agent answers: {(self.home / 'agent.log').read_text()}")

    def _answers(self) -> bool:
        try:
            return bool(self.backend.agent.call("status")["zygote_pid"])
        except BackendUnavailable:
            return False

    def kill_agent(self) -> None:
        assert self.agent is not None
        self.agent.kill()
        self.agent.wait()

    def snapshot(self) -> Snapshot:
        first = next(iter(self.backend.watch()))
        assert isinstance(first, Snapshot)
        return first

    def gone(self, instance: Instance) -> Gone:
        """Wait for an exit that has not been acknowledged yet, and for the last line of it."""

        def look() -> Gone | None:
            ended = self.snapshot().gone
            found = next((gone for gone in ended if gone.instance == instance), None)
            return found if found and not self._is_kept(instance) else None

        return eventually(look, f"{instance} ends")

    def _is_kept(self, instance: Instance) -> bool:
        rows = self.backend.agent.call("status")["workers"]
        return any((row["worker_id"], row["generation"]) == _pair(instance) for row in rows)

    def keeper_pid(self, worker_id: str) -> int:
        rows = self.backend.agent.call("status")["workers"]
        return next(int(row["keeper_pid"]) for row in rows if row["worker_id"] == worker_id)

    def start(
        self, *words: str, worker_id: str = "worker-1", generation: int = 1, **limits: float
    ) -> Alive:
        made = spec(*words, worker_id=worker_id, generation=generation)
        return self.backend.start(replace(made, **limits))  # type: ignore[arg-type]

    def lines(self, stream: str = "stdout", tail: int = 100_000) -> list[str]:
        source = self.backend.read_log("worker-1", stream, LogStart(tail=tail))
        return [line.text for line in last_lines(source.pieces(), tail, start=source.start).lines]


def _pair(instance: Instance) -> tuple[str, int]:
    return instance.worker_id, instance.generation


def spec(
    *words: str,
    worker_id: str = "worker-1",
    generation: int = 1,
    folder: str = "",
    log_max_bytes: int = 10 * 1024 * 1024,
    log_files: int = 5,
    **env: str,
) -> WorkerSpec:
    return WorkerSpec(
        instance=Instance(worker_id, generation),
        queues=(),
        pool=Pool.SOLO,
        concurrency=1,
        env=env,
        args=words,
        working_directory=folder,
        log_max_bytes=log_max_bytes,
        log_files=log_files,
    )


@contextmanager
def running_host() -> Iterator[Host]:
    """A host whose agent answers; at the end all of its workers and the agent are ended, however
    the test ended. What is left of a host in order is a mistake, and told."""
    with tempfile.TemporaryDirectory(prefix="muster-host-") as folder:
        made = Host(Path(folder))
        try:
            made.start_agent()
            yield made
            _end(made)
            eventually_nothing(lambda: list(processes_of(made.home).values()), PATIENCE_S)
        finally:
            kill_all(made.home)
            if made.agent:
                made.agent.wait(PATIENCE_S)


def _end(host: Host) -> None:
    assert host.agent is not None
    for alive in host.snapshot().alive:
        host.backend.stop(alive.instance, graceful=False, timeout_s=0)
    eventually(lambda: not host.snapshot().alive, "all workers end")
    host.agent.terminate()
    host.agent.wait(PATIENCE_S)
