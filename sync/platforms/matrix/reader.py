"""Reading an account: answers of the server → rows, and the place after them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import httpx

from sync.batches import bounds
from sync.errors import CursorInvalid, RequestRejected
from sync.platforms.matrix import rooms, wire
from sync.platforms.matrix.client import MatrixClient
from sync.platforms.matrix.events import member_names, placed, read_timeline, refusal
from sync.platforms.matrix.invitations import follow
from sync.platforms.matrix.place import Gap, Place
from sync.weights import Row

ORIGINALS_AT_ONCE = 8
# To who asks for an event from before their time, where history is for members only.
HIDDEN = {httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What one answer brought, where we stand after it, and whether rooms were entered on the way
    (then their messages are there to be read at once)."""

    rows: list[Row]
    place: Place
    entered: bool = False


class Reader:
    """Keeps nothing between calls: all that matters is in the place."""

    def __init__(self, client: MatrixClient, me: str) -> None:
        self._client = client
        self._me = me

    async def news(self, place: Place, wait_s: float) -> Step:
        """One /sync from `place`, waiting up to `wait_s` for news. Raises `CursorInvalid`."""
        try:
            answer = await self._client.sync(place.since, wait_s)
        except RequestRejected as error:
            if place.since and error.status == httpx.codes.BAD_REQUEST:
                raise CursorInvalid(str(error)) from error
            raise
        rows: list[Row] = []
        gaps: list[Gap] = []
        for room_id, room in (*answer.rooms.join.items(), *answer.rooms.leave.items()):
            floor = place.floors.get(room_id)
            is_whole = not place.since or rooms.is_new(room)
            is_left = room_id in answer.rooms.leave
            rows += await self._room(room_id, room, is_whole, is_left, floor)
            if room.timeline.limited and room.timeline.prev_batch:
                stop = None if is_whole else place.since
                start = room.timeline.prev_batch
                gaps.append(Gap(room=room_id, start=start, stop=stop, floor=floor))
        followed = await follow(self._client, place, answer.rooms)
        after = Place(
            since=answer.next_batch,
            gaps=(*gaps, *place.gaps),  # the newest first: that is what people look at
            invitations=followed.later,
        )
        return Step([*rows, *followed.refused], after, followed.entered)

    async def page(self, place: Place) -> Step:
        """One page of the first gap of `place`. Raises `CursorInvalid`.

        A gap ends where the server names no further page, or at the last message that we know: with
        the first page on which nothing is as new (clocks of servers differ, within a page). One
        that can't be read at all (the account was put out of the room) is refused, so that people
        see it, and left.
        """
        gap, rest = place.gaps[0], place.gaps[1:]
        try:
            answer = await self._client.history(gap.room, gap.start, gap.stop, bounds().rows)
        except RequestRejected as error:
            if error.status == httpx.codes.BAD_REQUEST:  # it does not know the token any more
                raise CursorInvalid(str(error)) from error
            reason = f"a stretch of history can't be read: {error}"
            refused = refusal(gap.model_dump(by_alias=True), reason, "history")
            return Step([refused], place.model_copy(update={"gaps": rest}))
        rows = await self._messages(
            gap.room,
            tuple(reversed(answer.chunk)),
            member_names(answer.state),
            is_whole=gap.stop is None and gap.floor is None,
        )
        is_known = gap.floor is not None and newest(answer.chunk) < gap.floor
        if answer.end and answer.end != gap.start and not is_known:
            rest = (gap.model_copy(update={"start": answer.end}), *rest)
        return Step(rows, place.model_copy(update={"gaps": rest}))

    async def _room(
        self, room_id: str, room: wire.Room, is_whole: bool, is_left: bool, floor: int | None
    ) -> list[Row]:
        """A room's record where it may have changed, then its messages."""
        known = rooms.facts(room_id, room, is_whole)
        rows: list[Row] = list(known.refused)
        if known.touches_title and (is_whole or not is_left):
            known = known if is_whole else await self._completed(room_id, known)
            rows.append(rooms.conversation(room_id, known, self._me))
        is_all = is_whole and floor is None
        return rows + await self._messages(room_id, room.timeline.events, known.names, is_all)

    async def _completed(self, room_id: str, known: rooms.Facts) -> rooms.Facts:
        """`known`, and what else the room's record needs, asked from the server."""
        try:
            if known.name is None:
                name = (await self._client.room_name(room_id)).name
                known = replace(known, name=name or "")
            if not known.name and known.alias is None:
                alias = (await self._client.canonical_alias(room_id)).alias
                known = replace(known, alias=alias or "")
            if known.needs_members:  # last: the answer may be large
                joined = (await self._client.joined_members(room_id)).joined
                people = {user: profile.display_name or user for user, profile in joined.items()}
                known = rooms.with_members(known, people, self._me)
        except RequestRejected:  # put out of the room meanwhile: what is known has to do
            pass
        return known

    async def _messages(
        self, room_id: str, raws: Sequence[object], names: dict[str, str], is_whole: bool
    ) -> list[Row]:
        """The messages of a stretch; and, as they are now, older ones that were changed in it.

        `is_whole`: all that came before is being read too, and will come as it is now.
        """
        page = read_timeline(room_id, raws, names, self._me)
        rows: list[Row] = [*page.messages, *page.refused]
        changed = [] if is_whole else list(page.elsewhere.items())
        for start in range(0, len(changed), ORIGINALS_AT_ONCE):
            some = changed[start : start + ORIGINALS_AT_ONCE]
            for found in await asyncio.gather(*(self._original(room_id, *each) for each in some)):
                rows += found
        return rows

    async def _original(self, room_id: str, event_id: str, changes: list[object]) -> list[Row]:
        """A message that is not at hand, asked from the server, with `changes` made to it."""
        try:
            answer = await self._client.event(room_id, event_id)
        except RequestRejected as error:
            reason = f"it changes {event_id}, which can't be read: {error}"
            if error.status in HIDDEN:
                # What is not shown to us can't be taken away; an audit finds it if we hold it.
                changes = [raw for raw in changes if rooms.kind_of(raw) != "m.room.redaction"]
                log.info("in room %s %s", room_id, reason)
            return [refusal(placed(raw, room_id), reason) for raw in changes]
        names = member_names(answer.state)
        page = read_timeline(room_id, [answer.event, *changes], names, self._me)
        return [*page.messages, *page.refused]


def newest(events: Sequence[object]) -> float:
    """When the newest of them was sent (ms since 1970); one without a time may be new."""
    times = [event.get("origin_server_ts") for event in events if isinstance(event, dict)]
    return max((at if isinstance(at, int) else math.inf for at in times), default=math.inf)
