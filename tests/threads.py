"""Threads of a test that end with it, however it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connections

PATIENCE_S = 30.0


@contextmanager
def alongside(
    *work: Callable[[], object],
    end: Callable[[], object] = lambda: None,
    patience_s: float = PATIENCE_S,
) -> Iterator[None]:
    """Runs each in a thread of its own, beside the block.

    When the block is left, `end` is called, and all of them have to be over within `patience_s`.
    The first error of one fails the test, unless the block itself failed. A thread that hangs
    fails its test too; as a daemon it can't keep the whole run from ending.
    """
    failed: list[BaseException] = []

    def run(one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end()
        for thread in threads:
            thread.join(patience_s)
    assert not any(thread.is_alive() for thread in threads), "a thread does not end"
    if failed:
        raise failed[0]
