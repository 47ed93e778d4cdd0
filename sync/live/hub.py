"""The one reader of the feed of a web process.

It lives on the event loop that serves the consoles, for as long as there are any. It listens on a
connection of its own; entries are read and expanded in one thread, once for all consoles. The
notification is a hint: without it, it looks by itself every two seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from django.utils import timezone

from lifecycle.leadership import CONNECT_OPTIONS
from sync import feed
from sync.errors import FeedPruned
from sync.live.expanding import Renderer, expand
from sync.live.recent import Recent, Told
from sync.live.rights import Login, still_allowed

log = logging.getLogger(__name__)

POLL_S = 2.0  # without a notification
KEPT = 2000  # entries in memory; whoever falls behind them has to come again
LOADED = 500  # of these at the start, so that consoles that come back need no query
READ_AT_ONCE = 200
# News are gathered for a moment, the longer the more consoles there are: 500 get 10 chunks a s.
SPACING_S = 0.01
SPACING_FOR_EACH_S = 0.0002
HEARTBEAT_S = 15.0
RIGHTS_S = 20.0
RETRY_S = (0.5, 4.0)
ANSWER_S = 15.0  # a database that says nothing for so long is away
LINGER_S = 60.0  # after the last console

P = ParamSpec("P")
T = TypeVar("T")


class Follower(Protocol):
    """What the hub needs to know of a console."""

    login: Login
    renderer: Renderer
    denied: bool


class Hub:
    """Follows the feed and wakes the consoles. Everything but `in_thread` is for its loop alone."""

    def __init__(self) -> None:
        self.followers: set[Follower] = set()
        self.recent: Recent | None = None  # None until the feed was first read
        self.away = False  # the database can't be reached
        self.beats = 0
        self._woken = asyncio.Event()
        self._wanted_at = time.monotonic()
        self._reader = ThreadPoolExecutor(1, "muster-feed")
        self._others = ThreadPoolExecutor(2, "muster-backlog")
        self._task: asyncio.Task[None] | None = None

    # --- for consoles ---

    @asynccontextmanager
    async def joined(self, follower: Follower) -> AsyncIterator[None]:
        """Among those who are woken and whose rights are looked after."""
        self.followers.add(follower)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._live(), name="muster-hub")
        try:
            yield
        finally:
            self.followers.discard(follower)

    async def woken(self) -> None:
        """Until there is something new: entries, a heartbeat, a change of state."""
        await self._woken.wait()

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Something with the database, beside the reading of the feed."""
        return await _run(self._others, work, *args, **kwargs)

    # --- its life ---

    async def _live(self) -> None:
        """Until nobody has followed for a minute."""
        helpers = [asyncio.create_task(one()) for one in (self._beat, self._look_after_rights)]
        try:
            while self.followers:
                await self._follow_feed()
                self.recent = None
        finally:
            for one in helpers:
                one.cancel()

    async def _follow_feed(self) -> None:
        wait_s, said = RETRY_S[0], ""
        while self._is_wanted():
            try:
                async with _listening() as link:
                    wait_s, said = RETRY_S[0], ""
                    await self._while_connected(link)
                    return
            except (psycopg.Error, DatabaseError, OSError) as error:
                if type(error).__name__ != said:  # once for each outage
                    log.warning("the feed can't be read, trying again: %s", error)
                said = type(error).__name__
            except Exception:  # a bug in what is shown must not end the stream for good
                log.exception("the feed can't be read")
            self.away = True
            self._wake()
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            wait_s = min(wait_s * 2, RETRY_S[1])

    async def _while_connected(self, link: psycopg.AsyncConnection[Any]) -> None:
        """Returns when nobody has followed for a minute."""
        while self._is_wanted():
            async with asyncio.timeout(ANSWER_S):
                await self._take_in()
            if self.away:
                self.away = False
                self._wake()
            await asyncio.sleep(SPACING_S + SPACING_FOR_EACH_S * len(self.followers))
            heard = False
            async for _ in link.notifies(timeout=POLL_S, stop_after=1):
                heard = True
            if not heard:  # a dead connection is silent, too
                async with asyncio.timeout(ANSWER_S):
                    await link.execute("SELECT 1")

    async def _take_in(self) -> None:
        """Read all that is new and wake the consoles."""
        if self.recent is None:
            start, told = await _run(self._reader, _newest)
            self.recent = Recent(start, KEPT)
            self.recent.add(told)
            self._wake()
        while told := await self._read_on(self.recent.end):
            self.recent.add(told)
            self._wake()

    async def _read_on(self, position: int) -> list[Told]:
        renderers = {one.renderer for one in self.followers}
        try:
            return await _run(self._reader, _read, position, renderers)
        except FeedPruned as pruned:  # away for a week, or another database than before
            log.warning("the feed is read anew: %s", pruned)
            self.recent = Recent(pruned.newest, KEPT)
            return []

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self.beats += 1
            self._wake()

    async def _look_after_rights(self) -> None:
        while True:
            await asyncio.sleep(RIGHTS_S)
            followers = set(self.followers)
            logins = {one.login for one in followers}
            try:
                allowed = await self.in_thread(still_allowed, logins, timezone.now())
            except (psycopg.Error, DatabaseError) as error:  # nothing is sent then, either
                log.warning("rights can't be checked now: %s", error)
                continue
            for one in followers:
                one.denied = one.login not in allowed
            if len(allowed) < len(logins):
                self._wake()

    def _is_wanted(self) -> bool:
        if self.followers:
            self._wanted_at = time.monotonic()
        return time.monotonic() - self._wanted_at < LINGER_S

    def _wake(self) -> None:
        self._woken.set()
        self._woken = asyncio.Event()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """That of the running loop: one for each web process."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]


def tell(position: int, most: int) -> list[Told]:
    """Entries from the database with what people see of them. Raises `FeedPruned`."""
    return [Told(news) for news in expand(feed.read_after(position, most))]


def _read(position: int, renderers: set[Renderer]) -> list[Told]:
    told = tell(position, READ_AT_ONCE)
    for one in told:
        for renderer in renderers:
            one.said(renderer)
    return told


def _newest() -> tuple[int, list[Told]]:
    """The newest entries, and the position that they follow."""
    entries = feed.read_last(LOADED)
    start = (entries[0].position or 1) - 1 if entries else feed.head()
    return start, [Told(news) for news in expand(entries)]


async def _run(
    pool: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Do it in a thread, which gives its database connection back."""

    def do() -> T:
        close_old_connections()
        try:
            return work(*args, **kwargs)
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(pool, do)


@asynccontextmanager
async def _listening() -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """A connection that hears of new entries. Raises `psycopg.Error`, `OSError`."""
    given = connection.get_connection_params()
    ours = {name: value for name, value in given.items() if isinstance(value, str | int)}
    options = {**ours, **CONNECT_OPTIONS, "application_name": "muster-feed"}
    link = await psycopg.AsyncConnection.connect(**options, autocommit=True)
    try:
        await link.execute("LISTEN " + feed.CHANNEL)
        yield link
    finally:
        await link.close()
