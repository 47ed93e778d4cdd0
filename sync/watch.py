"""Where platforms are waited on: one asyncio loop, in a thread of its own, for each process.

A task's thread opens a `Watch`, asks it for batches one by one, and stores each before it asks for
the next: an adapter is never read ahead of what is committed. All that a connection does happens in
one asyncio task, so that its timeouts and cancel scopes nest as they were written.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from sync.errors import Interrupted, PlatformUnavailable, SyncError
from sync.platforms.base import Connection, Platform
from sync.types import AccountRef, Batch, LoginStep

PATIENCE_S = 30.0  # for an answer, beyond the time that a wait may take
CLOSE_S = 5.0

Action = Callable[[Connection], Awaitable[Any]]


@dataclass(slots=True)
class Call:
    """Something that a task's thread wants done on the loop."""

    action: Action
    answer: Future[Any] = field(default_factory=Future)


class Watch:
    """One account's connection for the length of a check: `with Watch(platform, ref) as watch`."""

    def __init__(self, platform: Platform, ref: AccountRef) -> None:
        self.platform, self.ref = platform, ref
        self._calls: asyncio.Queue[Call | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._interrupted = False
        self._served: Future[None] | None = None

    def __enter__(self) -> Watch:
        """Raises `Interrupted` when this process is stopping."""
        _enlist(self)
        self._served = asyncio.run_coroutine_threadsafe(self._serve(), _loop())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._served is not None  # noqa: S101 - entered
        _loop().call_soon_threadsafe(self._calls.put_nowait, None)
        try:
            self._served.result(CLOSE_S)
        except TimeoutError:
            self._served.cancel()
        except Exception:  # noqa: BLE001, S110 - the calls have been told already
            pass
        finally:
            _dismiss(self)

    def login(self) -> dict[str, object]:
        """`Connection.login`, with its errors; also `PlatformUnavailable`, `Interrupted`."""
        session: dict[str, object] = self._ask(lambda one: one.login(_tell_nobody), PATIENCE_S)
        return session

    def read(self, cursor: str, wait_s: float) -> Generator[Batch, None, None]:
        """`Connection.read`, batch by batch, with its errors; also `Interrupted`."""
        batches: list[Any] = []

        async def following(connection: Connection) -> Batch | None:
            if not batches:
                batches.append(aiter(connection.read(cursor, wait_s)))
            return await anext(batches[0], None)

        async def close(_connection: Connection) -> None:
            if batches and hasattr(batches[0], "aclose"):
                await batches[0].aclose()

        try:
            while (batch := self._ask(following, wait_s + PATIENCE_S)) is not None:
                yield batch
        finally:
            with contextlib.suppress(SyncError):
                self._ask(close, CLOSE_S)

    def interrupt(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """End what goes on; the thread that waits gets `Interrupted`. From any thread."""
        self._interrupted = True
        (loop or _loop()).call_soon_threadsafe(self._cancel)

    def _ask(self, action: Action, timeout_s: float) -> Any:
        assert self._served is not None  # noqa: S101 - entered
        call = Call(action)
        _loop().call_soon_threadsafe(self._calls.put_nowait, call)
        self._served.add_done_callback(lambda _served: call.answer.cancel())
        try:
            return call.answer.result(timeout_s)
        except CancelledError:
            self._blame()
            raise Interrupted(f"the check of account {self.ref.account_id} was ended") from None
        except TimeoutError:
            if call.answer.done():  # the adapter's own TimeoutError
                raise PlatformUnavailable("the platform did not answer in time") from None
            self.interrupt()
            raise PlatformUnavailable(f"no answer within {timeout_s:.0f} s") from None

    def _blame(self) -> None:
        """Raise what ended the connection, if it was not an interruption."""
        if self._interrupted or self._served is None or not self._served.done():
            return
        error = None if self._served.cancelled() else self._served.exception()
        if error is not None:
            raise error

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        """Do the calls one after the other within the connection, until there is no further one."""
        self._task = asyncio.current_task()
        if self._interrupted:
            return
        async with self.platform.connect(self.ref) as connection:
            while (call := await self._calls.get()) is not None:
                try:
                    answer = await call.action(connection)
                except Exception as error:  # noqa: BLE001 - raised again in the asking thread
                    call.answer.set_exception(error)
                else:
                    call.answer.set_result(answer)


async def _tell_nobody(_step: LoginStep) -> None:
    """Nobody is there to be told: the login has to do without."""


# --- the process ------------------------------------------------------------------------------


class _Process:
    """The loop and the open watches of this process."""

    def __init__(self) -> None:
        self.watches: dict[int, Watch] = {}  # the newest of each account
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="muster-watch", daemon=True).start()


_process: _Process | None = None
_stopping = False
_guard = threading.Lock()


def _after_fork() -> None:
    """A forked child has none of its parent's threads: it begins with a loop of its own."""
    global _process, _stopping, _guard
    _process, _stopping, _guard = None, False, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _current() -> _Process:
    global _process
    with _guard:
        if _process is None:
            _process = _Process()
        return _process


def _loop() -> asyncio.AbstractEventLoop:
    return _current().loop


def _enlist(watch: Watch) -> None:
    """A newer check of an account ends the older one: its epoch is stale already."""
    watches = _current().watches
    older = watches.get(watch.ref.account_id)
    watches[watch.ref.account_id] = watch
    if older is not None:
        older.interrupt()
    if _stopping:  # asked after enlisting, so that `stop` misses nobody
        _dismiss(watch)
        raise Interrupted("the worker is stopping")


def _dismiss(watch: Watch) -> None:
    watches = _current().watches
    if watches.get(watch.ref.account_id) is watch:
        del watches[watch.ref.account_id]


def stop(*_: object, **__: object) -> None:
    """The worker stops: end all waits, begin none. Takes no lock: a signal handler runs it."""
    global _stopping
    _stopping = True
    process = _process
    if process is not None:
        for watch in list(process.watches.values()):
            watch.interrupt(process.loop)
