"""One reader's way along the feed: first what it missed, then what comes, in order, once.

A console keeps nothing but its position. It takes what it is sent from what all consoles share, so
one that is slow holds up nobody; when it falls out of what is kept in memory it is disconnected,
and comes again with the position of the last event it got.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import AsyncGenerator

import psycopg
from django.db import Error as DatabaseError

from sync.errors import FeedPruned
from sync.live.expanding import Renderer
from sync.live.hub import READ_AT_ONCE, Hub, hub, tell
from sync.live.recent import chunk_of
from sync.live.rights import Login

log = logging.getLogger(__name__)

RETRY_MS = (1000, 3000)  # consoles of a web process that ended don't come all at once
# The comment keeps proxies awake; browsers hide comments from pages, so there is an event as well.
HEARTBEAT = b": still here\nevent: beat\ndata: {}\n\n"


def event(name: str, data: object, position: int | None = None) -> bytes:
    """One server-sent event."""
    said = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    place = f"id: {position}\n" if position is not None else ""
    return f"event: {name}\n{place}data: {said}\n\n".encode()


class Console:
    """Where one console stands."""

    def __init__(self, login: Login, renderer: Renderer, position: int | None) -> None:
        self.login, self.renderer, self.position = login, renderer, position
        self.denied = False
        self.is_live = False  # it has all that there is, and was told so
        self.knows_away = False
        self.beats = 0


async def follow(login: Login, renderer: Renderer, since: int | None) -> AsyncGenerator[bytes]:
    """The events above `since` (None: from now on), for ever.

    `changes`: an entry, its id the position, as `renderer` writes it. `live`: all that there was
    has been sent. `reset`: what followed `since` is no longer kept; load everything anew, it goes
    on from the position given. `away`: the database can't be reached, `live` follows when it can.
    `denied`: login or right has ended, and so does the stream. `beat`, with a comment: every 15 s.
    """
    ours = hub()
    console = Console(login, renderer, since)
    yield f"retry: {random.randint(*RETRY_MS)}\n\n".encode()  # noqa: S311 - jitter
    async with ours.joined(console):
        while not console.denied:
            try:
                said = await _next(ours, console)
            except (psycopg.Error, DatabaseError) as error:
                log.warning("a console's backlog can't be read now: %s", error)
                said = b""  # the hub says when the database is back
            if said is None:
                place = console.position
                log.info("a console was too slow and is disconnected; it stands at %s", place)
                return
            if said:
                console.beats = ours.beats
                yield said
            else:
                await ours.woken()
        yield event("denied", {})


async def _next(ours: Hub, console: Console) -> bytes | None:
    """What the console is to be sent now, b"" for nothing; None when it fell behind."""
    if ours.away and not console.knows_away:
        console.knows_away, console.is_live = True, False
        return event("away", {})
    if ours.recent is None or ours.away:
        return _heartbeat(ours, console)
    console.knows_away = False
    if console.position is None:
        console.position = ours.recent.end
    if console.position != ours.recent.end:
        return await _news(ours, console)
    if not console.is_live:
        console.is_live = True
        return event("live", {"position": console.position}, console.position)
    return _heartbeat(ours, console)


def _heartbeat(ours: Hub, console: Console) -> bytes:
    if console.beats == ours.beats:
        return b""
    return HEARTBEAT


async def _news(ours: Hub, console: Console) -> bytes | None:
    """The next entries, from memory or, for one that has come back, from the database."""
    recent, position = ours.recent, console.position
    assert recent is not None  # noqa: S101 - as the caller saw
    assert position is not None  # noqa: S101
    if not recent.start <= position <= recent.end:
        if console.is_live:
            return None
        return await _backlog(ours, console, position)
    found = recent.chunk(console.renderer, position)
    if found is None:
        told = recent.after(position)
        found = await ours.in_thread(chunk_of, told, console.renderer, position)
    chunk, console.position = found
    return chunk


async def _backlog(ours: Hub, console: Console, position: int) -> bytes:
    def read() -> tuple[bytes, int]:
        return chunk_of(tell(position, READ_AT_ONCE), console.renderer, position)

    try:
        chunk, console.position = await ours.in_thread(read)
    except FeedPruned as pruned:
        console.position = pruned.newest
        return event("reset", {"position": pruned.newest}, pruned.newest)
    return chunk
