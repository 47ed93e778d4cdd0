"""The database for coroutines: a few threads, each with a connection while it needs one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import close_old_connections

P = ParamSpec("P")
T = TypeVar("T")

# Of the 8 connections of a process's pool; the others are its reporter's and its tasks'. What waits
# for a thread waits as a coroutine: these are all, however many accounts are watched.
DATABASE_THREADS = 4


class Database:
    """Calls functions that use the database. One for each process; its threads start on demand."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DATABASE_THREADS, thread_name_prefix="muster-database")

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result or error. A caller that is cancelled leaves it running: what was
        asked for is done to its end, and never half."""
        call = partial(function, *args, **kwargs)
        answer = asyncio.get_running_loop().run_in_executor(self._threads, _called, call)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(_heard)
            raise

    def end(self) -> None:
        """Begin nothing more; what runs may finish."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _called(call: Callable[[], T]) -> T:
    """With a connection that works, given back to the pool afterwards."""
    try:
        return call()
    finally:
        close_old_connections()


def _heard(answer: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more: its error is no news."""
    if not answer.cancelled():
        answer.exception()
