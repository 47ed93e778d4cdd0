"""Loaded into the workers under test with `--include`: ways to be ill that answer every ping.

`ILL` says which; it strikes once: the file `ILL_ONCE` is gone afterwards, so the successor is well.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import shared_task
from celery.signals import worker_ready
from celery.worker.consumer import Consumer

MB = 1024 * 1024
hoarded: list[bytes] = []


@shared_task(ignore_result=True)
def note(file: str, seconds: float = 0.0) -> None:
    """Take time; then say so by adding a byte to `file`."""
    time.sleep(seconds)
    with Path(file).open("ab") as notes:
        notes.write(b".")


@shared_task(ignore_result=True)
def hoard(megabytes: int) -> None:
    """A leak: memory that is written to and never given back."""
    hoarded.append(os.urandom(MB) * megabytes)


def _fetch_nothing(sender: Any, **_: object) -> None:
    """As after some reconnects (celery #8030): it says that it consumes, and asks for nothing."""
    sender.task_consumer.channel._queue_cycle.update([])


def _consume_no_more(*_: object, **__: object) -> None:
    """A consumer that can't be added back."""


def _strike() -> None:
    once = Path(os.environ["ILL_ONCE"])
    if once.exists():
        once.unlink()
        if os.environ["ILL"] == "deaf":
            worker_ready.connect(_fetch_nothing, weak=False)
        else:
            setattr(Consumer, "add_task_queue", _consume_no_more)  # noqa: B010 - mypy forbids it


if "ILL" in os.environ:
    _strike()
