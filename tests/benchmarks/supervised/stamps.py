"""How everything that is measured says when it began to live: one datagram, by the clock of all.

The line is `name pid nanoseconds` (CLOCK_MONOTONIC, which all processes of a machine share).
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

SOCKET_VARIABLE = "MUSTER_BENCH_SOCKET"
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Stamp:
    name: str
    pid: int
    at_ns: int


class Stamps:
    """Where the stamps arrive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.pids: dict[str, int] = {}

    def wait(self, name: str, patience_s: float = PATIENCE_S) -> Stamp:
        """The next stamp of `name`; those of others before it only leave their pid."""
        deadline = time.monotonic() + patience_s
        while True:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            seen = self._next()
            if seen.name == name:
                return seen

    def wait_all(self, names: set[str], patience_s: float = 4 * PATIENCE_S) -> int:
        """The time of the last of these names' next stamps."""
        left, last_ns = set(names), 0
        while left:
            self._socket.settimeout(patience_s)
            seen = self._next()
            left.discard(seen.name)
            last_ns = max(last_ns, seen.at_ns)
        return last_ns

    def _next(self) -> Stamp:
        name, pid, at_ns = self._socket.recv(200).decode().split()
        self.pids[name] = int(pid)
        return Stamp(name, int(pid), int(at_ns))


def send(name: str, path: str | None = None) -> None:
    """Stamp this process, now."""
    at_ns = time.monotonic_ns()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        line = f"{name} {os.getpid()} {at_ns}"
        ours.sendto(line.encode(), path or os.environ[SOCKET_VARIABLE])
