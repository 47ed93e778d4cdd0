"""One check of an account, in the test's own transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from django.db import DatabaseError

from sync.engine.database import Database
from sync.engine.engine import Engine
from sync.models import Account
from tests.db.sync_stage import lease

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE_S = 30


class TestsThread(Database):
    """The database in the thread of the test, which alone sees what its transaction holds."""

    __test__ = False

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        call = partial(function, *args, **kwargs)
        self.calls.put(lambda: _answer(loop, answer, call))
        return await answer

    def serve(self) -> None:
        while (call := self.calls.get(timeout=PATIENCE_S)) is not None:
            call()


def _answer(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any], call: Callable[[], Any]
) -> None:
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - raised again where it is awaited
        loop.call_soon_threadsafe(answer.set_exception, error)
    else:
        loop.call_soon_threadsafe(answer.set_result, result)


def check(account: Account) -> Account:
    """Have an account checked, to the check's end."""
    database = TestsThread()
    held = lease(account)

    async def whole() -> None:
        engine = Engine(database)
        engine.take(held)
        (watched,) = engine._watched.values()
        assert watched.task is not None
        await watched.task
        assert len(engine) == 0
        with suppress(DatabaseError):
            await engine.write_totals()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def run() -> None:
        try:
            asyncio.run(whole())
        finally:
            database.calls.put(None)

    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(run)
        database.serve()
        ended.result()
    account.refresh_from_db()
    return account
