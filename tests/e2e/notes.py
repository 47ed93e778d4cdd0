"""A task for workers under test: each run leaves a line, in the order in which they happen."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from celery import shared_task

FILE = "notes.txt"


@dataclass(frozen=True, slots=True)
class Note:
    number: int
    pid: int
    waited_s: float  # from sending to running


def notes(home: Path) -> list[Note]:
    """What was noted so far."""
    path = home / FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return [Note(int(n), int(pid), float(waited)) for n, pid, waited in map(str.split, lines)]


@shared_task(name="tests.note", ignore_result=True)
def note(number: int, sent_at: float) -> None:
    """`sent_at` is `time.time()` at the sender, on the same machine."""
    line = f"{number} {os.getpid()} {time.time() - sent_at:.4f}\n"
    path = Path(os.environ["MUSTER_HOME"]) / FILE
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, line.encode())  # one write: lines of several processes don't mix
    os.close(file)
    time.sleep(0.05)
