"""Opening a platform's connection, and how much is asked of one server at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from sync.errors import PlatformUnavailable
from sync.platforms.base import Connection, Platform
from sync.types import AccountRef

log = logging.getLogger(__name__)

OPEN_S = 60.0
CLOSE_S = 5.0
# Answers of one server under way at a time, waits apart: those behind a slow one wait for each
# other, and for nobody else's.
ANSWERS_AT_ONCE = 8


@dataclass(slots=True, eq=False, weakref_slot=True)
class Server:
    """A server that accounts of this process live on."""

    place: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ANSWERS_AT_ONCE))
    is_troubled: bool = False  # it failed somebody since it last answered


class Servers:
    """The servers that are asked at present."""

    def __init__(self) -> None:
        self._servers: WeakValueDictionary[tuple[str, str], Server] = WeakValueDictionary()

    def at(self, ref: AccountRef) -> Server:
        name = (ref.platform, ref.endpoint)
        server = self._servers.get(name)
        if server is None:
            server = self._servers[name] = Server()
        return server


@asynccontextmanager
async def opened(platform: Platform, ref: AccountRef) -> AsyncIterator[Connection]:
    """The platform's connection, with an end to the waits for its opening and closing."""
    clock = asyncio.get_running_loop().time
    patience = asyncio.timeout(OPEN_S)
    failed: Exception | None = None
    was_open = False
    try:
        async with patience, platform.connect(ref) as connection:
            was_open = True
            patience.reschedule(None)
            try:
                yield connection
            except Exception as error:  # noqa: BLE001 - raised again once the connection is closed
                failed = error
            finally:
                patience.reschedule(clock() + CLOSE_S)
    except TimeoutError:
        if not was_open:
            raise PlatformUnavailable("the platform did not answer in time") from None
        log.warning("the connection of account %s does not close, left open", ref.account_id)
    if failed is not None:
        raise failed
