"""The engine of this process: one loop on a thread of its own, begun with the first account.

In a threads or solo worker that is the worker's only process; with prefork each pool child has its
own. A pool child is forked from a process that may have one, and then begins anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import Future

from celery.signals import worker_process_shutdown, worker_shutdown, worker_shutting_down

from lifecycle import worker_signals
from sync.engine.database import Database
from sync.engine.engine import Engine
from sync.types import Lease

log = logging.getLogger(__name__)

STUCK_S = 60.0
END_S = 8.0  # for checks to end and claims to be given back


class Process:
    """An engine, its loop and their thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.database = Database()
        self.engine = Engine(self.database)
        self.stopped: Future[None] | None = None
        self.thread = threading.Thread(target=self._run, name="muster-engine", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        living = [self.loop.create_task(one) for one in (self.engine.live(), self.engine.turn())]
        self.loop.run_forever()
        for task in living:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*living, return_exceptions=True))
        self.loop.close()

    def take(self, lease: Lease) -> None:
        self.loop.call_soon_threadsafe(self.engine.take, lease)

    def stop(self) -> None:
        if self.stopped is None:
            self.stopped = asyncio.run_coroutine_threadsafe(self.engine.stop(), self.loop)

    def end(self) -> None:
        """Stop, and wait for it."""
        self.stop()
        assert self.stopped is not None  # noqa: S101 - just asked
        try:
            self.stopped.result(END_S)
        except TimeoutError:
            log.warning("the checks did not end within %.0f s; their leases will", END_S)
        self.database.end()

    def close(self) -> None:
        """End the loop and its thread, after `end`."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


_process: Process | None = None
_stopping = False
_guard = threading.Lock()


def take(lease: Lease) -> None:
    """Have an account checked, and watched where it can be waited on. Returns at once."""
    _current().take(lease)


def watched() -> int:
    """How many accounts this process watches."""
    return len(_process.engine) if _process else 0


def is_stuck() -> bool:
    """The loop has stood still for a minute: something on it computes or blocks."""
    return _process is not None and _process.engine.silent_s > STUCK_S


def stop(*_: object, **__: object) -> None:
    """The worker stops: end all waits, begin none. Takes no lock: a signal handler runs it."""
    global _stopping
    _stopping = True
    if _process is not None:
        _process.stop()


def end(*_: object, **__: object) -> None:
    """The process ends: stop, and wait until all claims are given back, 8 s at most."""
    stop()
    if _process is not None:
        _process.end()


def _current() -> Process:
    global _process
    with _guard:
        if _process is None:
            _process = Process()
            if _stopping:
                _process.stop()
        return _process


def _after_fork() -> None:
    """A forked child has none of its parent's threads."""
    global _process, _stopping, _guard
    _process, _stopping, _guard = None, False, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
worker_shutting_down.connect(stop, dispatch_uid="sync.engine.stop")
worker_shutdown.connect(end, dispatch_uid="sync.engine.end")
worker_process_shutdown.connect(end, dispatch_uid="sync.engine.end")
worker_signals.watch(is_stuck)
