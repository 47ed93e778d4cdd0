"""What the homeserver holds, for audits: ids room by room, and messages by their ids [S9]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from sync.batches import slices, sorted_out
from sync.errors import RequestRejected
from sync.platforms.matrix.client import MatrixClient
from sync.platforms.matrix.events import member_names, read_timeline
from sync.types import (
    NOTHING_DONE,
    Batch,
    Done,
    Listed,
    Listing,
    MessageRecord,
    RecordKind,
)
from sync.weights import Row

PAGE = 500  # events
FETCHED_AT_ONCE = 8  # requests
# How far ahead of ours the clock of a server may be that an event comes from.
AHEAD = timedelta(days=2)
MOST_HELD = 1000  # messages out of order that a place speaks of
CLOCK_TICK = timedelta(milliseconds=1)  # origin_server_ts


class Held(BaseModel):
    """A message that is still to be told: with the window that its time is in."""

    id: str
    sent_at: datetime
    version: str


class Place(BaseModel):
    """Where a room is listed on from: the homeserver's token, and what was held back before it."""

    start: str = ""
    held: list[Held] = []


async def list_messages(
    client: MatrixClient, me: str, since: datetime, done: Done = NOTHING_DONE
) -> AsyncIterator[Listing]:
    """The messages of each joined room since then, without those that were redacted."""
    for room in (await client.joined_rooms()).joined_rooms:
        before = done.get((RecordKind.MESSAGE, room))
        if before is None or before.since > since:
            async for listing in list_room(client, room, me, since, before):
                yield listing


async def list_room(
    client: MatrixClient, room: str, me: str, since: datetime, before: Listed | None = None
) -> AsyncIterator[Listing]:
    """Page by page, the newest first, each told once the next one says how far down it reaches.

    Times may be out of order (`origin_server_ts` is what the sender's server says), so the newest
    time of a page bounds it: a single old one ends nothing. What is newer than its page's
    neighbours is listed with the window in which it came.
    """
    until = max(datetime.now(UTC), since) + AHEAD
    place = Place()
    if before and before.place:
        until, place = before.since, Place.model_validate_json(before.place)
    start = place.start
    held = {one.id: one for one in place.held}
    while True:
        answer = await client.history(room, start, None, PAGE)
        messages = read_timeline(room, answer.chunk, {}, me).messages
        newest = max((message.sent_at for message in messages), default=until)
        # Others of the newest one's millisecond may have come with the page before.
        begin = max(since, min(until, newest + CLOCK_TICK))
        if since < begin < until:
            told = _told(held, begin)
            yield Listing(RecordKind.MESSAGE, room, begin, until, told, _place(start, held))
            until = begin
        held |= {
            one.external_id: Held(id=one.external_id, sent_at=one.sent_at, version=version(one))
            for one in messages
            if one.sent_at >= since and not one.is_deleted
        }
        if not answer.end or answer.end == start or newest < since:
            yield Listing(RecordKind.MESSAGE, room, since, until, _told(held, since))
            return
        start = answer.end


def _told(held: dict[str, Held], begin: datetime) -> dict[str, str]:
    """Takes out of `held` what is in the window from `begin` on."""
    ids = [one.id for one in held.values() if one.sent_at >= begin]
    return {id: held.pop(id).version for id in ids}


def _place(start: str, held: dict[str, Held]) -> str:
    """ "" when too much is held back to be kept: then the room is listed again from its end."""
    if len(held) > MOST_HELD:
        return ""
    return Place(start=start, held=list(held.values())).model_dump_json()


def version(message: MessageRecord) -> str:
    """Another text for each edit: when it was made."""
    return (message.edited_at or message.sent_at).isoformat()


async def fetch_messages(
    client: MatrixClient, room: str, me: str, ids: Sequence[str]
) -> AsyncIterator[Batch]:
    """The messages as they are now, without those that the server doesn't show us (any more)."""
    for start in range(0, len(ids), FETCHED_AT_ONCE):
        some = ids[start : start + FETCHED_AT_ONCE]
        found = await asyncio.gather(*(_message(client, room, me, each) for each in some))
        for piece in slices(row for rows in found for row in rows):
            records, refused = sorted_out(piece)
            yield Batch(None, records, refused, fetched=True)


async def _message(client: MatrixClient, room: str, me: str, event_id: str) -> list[Row]:
    try:
        answer = await client.event(room, event_id)
    except RequestRejected:
        return []
    page = read_timeline(room, [answer.event], member_names(answer.state), me)
    return [*page.messages, *page.refused]
