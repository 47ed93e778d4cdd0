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
    """A message that came with a newer page than its time says: told when its window comes."""

    id: str
    sent_at: datetime
    version: str


class Place(BaseModel):
    """Where a room is listed on from: the homeserver's token, and what was held back until then."""

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
    """Page by page, the newest first. An event's time may be out of order (servers differ): it is
    listed with the page that it came in."""
    until = max(datetime.now(UTC), since) + AHEAD
    place = Place()
    if before and before.place:
        until, place = before.since, Place.model_validate_json(before.place)
    start = place.start
    held = {one.id: one.sent_at for one in place.held}
    versions = {one.id: one.version for one in place.held}
    while True:
        answer = await client.history(room, start, None, PAGE)
        page = read_timeline(room, answer.chunk, {}, me)
        for message in page.messages:
            if message.sent_at >= since and not message.is_deleted:
                held[message.external_id] = message.sent_at
                versions[message.external_id] = version(message)
        oldest = min((message.sent_at for message in page.messages), default=until)
        is_last = not answer.end or answer.end == start or oldest < since
        # Others of the oldest one's millisecond may come with the next page.
        begin = since if is_last else min(until, oldest + CLOCK_TICK)
        if begin < until:
            ids = [id for id, sent_at in held.items() if sent_at >= begin]
            told = {id: versions.pop(id) for id in ids}
            for id in ids:
                del held[id]
            rest = "" if is_last else _place(answer.end or "", held, versions)
            yield Listing(RecordKind.MESSAGE, room, begin, until, told, rest)
            until = begin
        if is_last:
            return
        start = answer.end or ""


def _place(start: str, held: dict[str, datetime], versions: dict[str, str]) -> str:
    """ "" when too much is held back to be kept: then the room is listed again from its end."""
    if len(held) > MOST_HELD:
        return ""
    kept = [Held(id=id, sent_at=at, version=versions[id]) for id, at in held.items()]
    return Place(start=start, held=kept).model_dump_json()


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
