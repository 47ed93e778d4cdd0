"""Reading an account's archives: pages → rows, and the place after them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sync.errors import CursorInvalid, RequestRejected
from sync.platforms.xmpp import rooms
from sync.platforms.xmpp.archive import Page, Query, moment
from sync.platforms.xmpp.place import OWN, Gap, Place, Position
from sync.platforms.xmpp.stanzas import (
    Archived,
    Owner,
    archived_at,
    bare,
    conversation,
    invitation,
    may_retract,
    message_id,
    own_part,
    read_archived,
    retracted_in_room,
    writer,
)
from sync.platforms.xmpp.stream import Stream
from sync.types import (
    Direction,
    MessageRecord,
    OutgoingReply,
    Refused,
)
from sync.weights import Row

# How far from ours the clock of a server may be.
CLOCKS_APART = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Step:
    rows: list[Row]
    place: Place


class Reader:
    """Keeps only which conversations were named on this stream; what matters is in the place."""

    def __init__(self, stream: Stream, owner: Owner) -> None:
        self._stream, self._owner = stream, owner
        self._named: set[str] = set()

    @property
    def archives(self) -> list[str]:
        return [OWN, *self._owner.nicks]

    async def news(self, place: Place, archive: str) -> Step:
        """The newest page of an archive above what we have. Raises `CursorInvalid`.

        Mostly one page upwards is all of it, and only upwards do servers say that they don't know
        the id where it begins.
        """
        position = place.at(archive)
        if floor := place.floor(archive, self._owner.nicks):
            return await self._news_since(place, archive, floor)
        page = await self._stream.query(
            Query(archive, backwards=not position.top, after=position.top)
        )
        total = page.count if page.items else position.total
        if position.top and not page.is_complete:
            page = await self._stream.query(Query(archive, after=position.top))
        gaps = position.gaps
        if not page.is_complete and page.first:
            had = position.total if position.top else 0
            left = None if total is None or had is None else total - had - len(page.items)
            gap = Gap(newer=page.first, older=position.top, left=left and max(1, left))
            gaps = (gap, *gaps)
        after = Position(top=page.last or position.top, total=total, gaps=gaps)
        kept_out = await self._follow(page) if archive in place.archives else []
        return Step([*await self._rows(page), *kept_out], self._moved(place, archive, after))

    async def _news_since(self, place: Place, archive: str, floor: datetime) -> Step:
        """The newest page since the last message that we know. `total` stays untold: what is
        counted is what the query is for."""
        page = await self._stream.query(Query(archive, start=since(floor)))
        if not page.items:  # by its clock: its newest page shows where it ends
            page = replace(await self._stream.query(Query(archive)), is_complete=True)
        gaps: tuple[Gap, ...] = ()
        if not page.is_complete and page.first:
            left = None if page.count is None else max(1, page.count - len(page.items))
            gaps = (Gap(newer=page.first, floor=floor, left=left),)
        kept_out = await self._follow(page, floor)
        after = Position(top=page.last, gaps=gaps)
        return Step([*await self._rows(page), *kept_out], self._moved(place, archive, after))

    def _moved(self, place: Place, archive: str, position: Position) -> Place:
        """Once our own archive is read, only rooms have a use for floors."""
        if archive == OWN and place.floors:
            place = place.with_floors_of(self._owner.nicks)
        return place.moved(archive, position)

    async def page(self, place: Place, archive: str) -> Step:
        """One page of the first gap of an archive, its newest part. Raises `CursorInvalid`."""
        position = place.at(archive)
        gap, *rest = position.gaps
        start = since(gap.floor) if gap.floor else ""
        query = Query(archive, before=gap.newer, after=gap.older, start=start)
        page = await self._stream.query(query)
        if not page.is_complete and page.first and page.first != gap.newer:
            left = None if gap.left is None else max(1, gap.left - len(page.items))
            rest = [gap.model_copy(update={"newer": page.first, "left": left}), *rest]
        after = position.model_copy(update={"gaps": tuple(rest)})
        kept_out = await self._follow(page, gap.floor) if gap.older or gap.floor else []
        return Step([*await self._rows(page), *kept_out], place.moved(archive, after))

    async def _follow(self, page: Page, floor: datetime | None = None) -> list[Refused]:
        """Enter the rooms that we were invited to since the first read, or after `floor`: older
        invitations were declined, or left again. The server's bookmarks keep what was entered."""
        kept_out = []
        for item in page.items:
            found = invitation(item, self._owner)
            if found is None or found.room in self._owner.nicks:
                continue
            at = archived_at(item)
            if floor and at and at < floor:
                continue
            try:
                self._owner.nicks[found.room] = await rooms.follow(self._stream, found)
            except RequestRejected as error:
                raw = json.dumps({"room": found.room})
                kept_out.append(Refused("invitation", found.room, raw, str(error)))
        return kept_out

    async def _rows(self, page: Page) -> list[Row]:
        """The messages of a page, each after its conversation."""
        rows: list[Row] = []
        for record in await self._records(page.items):
            if isinstance(record, MessageRecord):
                peer = record.conversation_id
                if peer not in self._named:
                    self._named.add(peer)
                    is_room = peer in self._owner.nicks
                    rows.append(conversation(peer, self._owner, is_room=is_room))
            rows.append(record)
        return rows

    def begin(self) -> None:
        """Name conversations again: what was read before may not have been stored."""
        self._named.clear()

    async def _records(self, items: Iterable[Archived]) -> list[MessageRecord | Refused]:
        records = []
        for item in items:
            record = read_archived(item, self._owner)
            if target := retracted_in_room(item):
                record = await self._retracted(item, target, record)
            if record is not None:
                records.append(record)
        return records

    async def _retracted(
        self, item: Archived, target: str, retraction: MessageRecord | Refused | None
    ) -> MessageRecord | Refused | None:
        """What is retracted in a room, as it is now; None when it isn't the writer's to retract.
        An id that the room doesn't know may be one that the writer gave."""
        try:
            page = await self._stream.query(Query(item.archive, ids=(target,)))
        except RequestRejected:
            return None
        for found in page.items:
            original = read_archived(found, self._owner)
            if isinstance(original, MessageRecord) and found.archive_id == target:
                gone = replace(original, text="", attachments=(), is_deleted=True)
                return gone if may_retract(item, original) else None
        is_moderated = (
            isinstance(retraction, MessageRecord) and retraction.sender_id == item.archive
        )
        return None if is_moderated else retraction

    async def backwards(
        self, archive: str, peer: str = "", *, start: str = "", end: str = ""
    ) -> AsyncIterator[list[MessageRecord]]:
        """The messages of an archive, or of one conversation in it, page by page, the newest
        first. `start`, `end`: times of XEP-0082, both included."""
        before = ""
        while True:
            query = Query(archive, before=before, peer=peer, start=start, end=end)
            page = await self._stream.query(query)
            found = await self._records(page.items)
            yield [record for record in found if isinstance(record, MessageRecord)]
            if page.is_complete or not page.first or page.first == before:
                return
            before = page.first

    def where(self, peer: str) -> tuple[str, str]:
        """The archive that has a conversation, and the peer to ask it for: servers know archived
        messages by bare addresses."""
        return (peer, "") if peer in self._owner.nicks else (OWN, bare(peer))

    async def find_sent(self, reply: OutgoingReply, external_id: str) -> str | None:
        """The reply's id if the archive has it; looked for from its end to when it was made."""
        oldest = reply.created_at - CLOCKS_APART
        async for page in self.backwards(*self.where(reply.conversation_id)):
            if any(record.external_id == external_id for record in page):
                return external_id
            if page and min(record.sent_at for record in page) < oldest:
                return None
        return None

    async def marked(self, peer: str, external_id: str) -> str | None:
        """The id in a marker for having read up to a message: of the last one that is not ours
        (XEP-0333: a marker names what was received), in rooms what the room calls it. None: there
        is none. Raises `RequestRejected` when the archive doesn't have the message."""
        is_room = peer in self._owner.nicks
        if not is_room and writer(external_id) != self._owner.jid:
            return own_part(external_id)
        archive, other = self.where(peer)
        before, is_reached = "", False
        while True:
            page = await self._stream.query(Query(archive, before=before, peer=other))
            for item in reversed(page.items):
                record = read_archived(item, self._owner)
                if not isinstance(record, MessageRecord):
                    continue
                is_reached = is_reached or record.external_id == external_id
                if is_reached and record.direction is Direction.INBOUND and not record.is_deleted:
                    return item.archive_id if is_room else own_part(record.external_id)
            if page.is_complete or not page.first or page.first == before:
                break
            before = page.first
        if not is_reached:
            raise RequestRejected("the archive has no such message", 404, "item-not-found")
        return None


async def all_news(reader: Reader, place: Place) -> AsyncIterator[tuple[Place, Step]]:
    """A step for each archive: the place before it, and what it brought."""
    done: set[str] = set()
    # Invitations in our own archive, the first, add rooms.
    while left := [each for each in reader.archives if each not in done]:
        archive = left[0]
        done.add(archive)
        try:
            step = await reader.news(place, archive)
        except CursorInvalid:
            raise
        except RequestRejected:
            if archive == OWN:
                raise
            continue  # a room that keeps no archive, or none for us
        yield place, step
        place = step.place


def since(floor: datetime) -> str:
    """A time of XEP-0082 from which on all is news, whatever the clocks are."""
    return moment(floor - CLOCKS_APART)


def sent_id(stream: Stream, owner: Owner, peer: str, id: str) -> str:
    """The external id that a message of ours will have."""
    nick = owner.nicks.get(peer)
    return message_id(f"{peer}/{nick}" if nick else stream.jid, id)
