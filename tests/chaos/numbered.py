"""Loaded into the workers under test with `--include`: numbered lines without end, and naps.

Each process counts what it has written in a small mapped file, which outlives its SIGKILL: so a
test knows how many lines there must be without asking the log.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
import threading
import time
from pathlib import Path

from celery import shared_task

from lifecycle.agent import process

LINES_AT_ONCE = 5
PAUSE_S = 0.05
FILLING = "." * 30


@shared_task(ignore_result=True)
def nap(seconds: float, done: str) -> None:
    """Take time; then say so by adding a byte to the file `done`."""
    time.sleep(seconds)
    with Path(done).open("ab") as file:
        file.write(b".")


def _tick(number: int, seconds: float, journal: str) -> None:
    """Say in one journal for all that this process begins, and that it has done, this number."""
    me = process.refer(os.getpid())
    journal_fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        for event in ("begins", "ends"):
            os.write(journal_fd, f"{number} {event} {me.pid} {me.started_ticks}\n".encode())
            if event == "begins":
                time.sleep(seconds)
    finally:
        os.close(journal_fd)


tick = shared_task(ignore_result=True, name="chaos.tick")(_tick)
tick_late = shared_task(ignore_result=True, acks_late=True, name="chaos.tick_late")(_tick)


def write_for_ever(tallies: Path, worker_id: str) -> None:
    token = secrets.token_hex(4)
    draft = tallies / f".{token}"
    draft.write_bytes(bytes(8))
    with draft.open("r+b") as file:
        tally = mmap.mmap(file.fileno(), 8)
    draft.rename(tallies / f"{worker_id}.{token}")
    number = 0
    pause = threading.Event()
    while True:
        for _ in range(LINES_AT_ONCE):
            # No buffer and no lock that a fork could copy; shorter than PIPE_BUF, so never torn.
            os.write(1, f"{token} {number:09d} {FILLING}\n".encode())
            number += 1
            struct.pack_into("q", tally, 0, number)
        pause.wait(PAUSE_S)


if folder := os.environ.get("CHAOS_TALLIES"):
    threading.Thread(
        target=write_for_ever, args=(Path(folder), os.environ["CHAOS_WORKER"]), daemon=True
    ).start()
