"""What `up` leaves on disk: the home's lock and `run/up.json`."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from lifecycle.agent import process
from lifecycle.agent.layout import write_json
from lifecycle.types import ProcessRef


class PartState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"  # it died and will be started again
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(slots=True)
class PartRecord:
    """One part as `up.json` shows it; pid and start ticks name its process."""

    name: str
    pid: int | None = None
    started_ticks: int | None = None
    state: PartState = PartState.STARTING
    restarts: int = 0
    started_at: str | None = None  # ISO 8601, UTC

    def process(self, boot_id: str) -> ProcessRef | None:
        if self.pid is None or self.started_ticks is None:
            return None
        return ProcessRef(self.pid, self.started_ticks, boot_id)


@dataclass(slots=True)
class UpState:
    """The content of `up.json`."""

    pid: int
    started_ticks: int
    boot_id: str
    url: str
    started_at: str
    parts: list[PartRecord] = field(default_factory=list)

    @property
    def process(self) -> ProcessRef:
        return ProcessRef(self.pid, self.started_ticks, self.boot_id)

    def alive(self) -> list[tuple[PartRecord, ProcessRef]]:
        """The parts whose very process runs now."""
        found = ((part, part.process(self.boot_id)) for part in self.parts)
        return [(part, ref) for part, ref in found if ref and process.is_alive(ref)]


class AlreadyRunning(Exception):
    """Another `up` holds the home's lock."""

    def __init__(self, home: Path, holder: dict[str, Any]) -> None:
        self.pid, self.url = holder.get("pid"), holder.get("url")
        super().__init__(f"Muster already runs in {home}: pid {self.pid}, {self.url}")


def state_file(home: Path) -> Path:
    return home / "run" / "up.json"


def write(home: Path, state: UpState) -> None:
    write_json(state_file(home), asdict(state))


def read(home: Path) -> UpState | None:
    """The last state written, or None when there is none that can be understood."""
    try:
        data = json.loads(state_file(home).read_text())
        parts = [PartRecord(**part | {"state": PartState(part["state"])}) for part in data["parts"]]
        return UpState(**data | {"parts": parts})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def home_lock(home: Path, url: str) -> Iterator[None]:
    """Hold the home, one `up` at a time; our death frees it. Raises `AlreadyRunning`."""
    path = home / "run" / "up.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(home, _holder(file.read())) from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "url": url}, file)
        file.flush()
        yield


def _holder(text: str) -> dict[str, Any]:
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
