"""How everything that is measured says when it began to live: one datagram, by the clock of all.

The line is `name pid nanoseconds` (CLOCK_MONOTONIC, which all processes of a machine share).
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SOCKET_VARIABLE = "MUSTER_BENCH_SOCKET"
PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Stamp:
    name: str
    pid: int
    at_ns: int


class Stamps:
    """Where the stamps arrive: read at once, or a sender would block when ten are waiting."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pids: dict[str, int] = {}
        self._arrived: queue.SimpleQueue[Stamp] = queue.SimpleQueue()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            name, pid, at_ns = self._socket.recv(200).decode().split()
            self.pids[name] = int(pid)
            self._arrived.put(Stamp(name, int(pid), int(at_ns)))

    def forget(self) -> None:
        """Nobody waits any more for what has arrived so far."""
        self._arrived = queue.SimpleQueue()

    def wait(self, name: str) -> Stamp:
        """The next stamp of `name`. Raises `queue.Empty`."""
        while True:
            seen = self._arrived.get(timeout=PATIENCE_S)
            if seen.name == name:
                return seen

    def wait_all(self, names: set[str]) -> int:
        """The time of the last of these names' next stamps. Raises `queue.Empty`."""
        left, last_ns = set(names), 0
        while left:
            seen = self._arrived.get(timeout=PATIENCE_S)
            left.discard(seen.name)
            last_ns = max(last_ns, seen.at_ns)
        return last_ns


def send(name: str, path: str | None = None) -> None:
    """Stamp this process, now."""
    at_ns = time.monotonic_ns()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        line = f"{name} {os.getpid()} {at_ns}"
        ours.sendto(line.encode(), path or os.environ[SOCKET_VARIABLE])
