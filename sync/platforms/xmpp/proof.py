"""What an account's archives hold, for audits: ids by conversation, and messages by their ids [S9].

An archive is read from its end, page by page. Corrections and retractions come later than what they
change, so they are met first, and kept for that. Our own archive has the messages of all people, so
a window is told for each of them.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sync.batches import slices, sorted_out
from sync.merge import combine
from sync.platforms import listing
from sync.platforms.xmpp.archive import moment
from sync.platforms.xmpp.place import OWN
from sync.platforms.xmpp.reader import CLOCKS_APART, Reader
from sync.platforms.xmpp.stanzas import folded
from sync.types import NOTHING_DONE, Batch, Done, Listed, Listing, MessageRecord, RecordKind

CLOCK_TICK = timedelta(microseconds=1)


@dataclass(slots=True)
class Walk:
    """Down one archive. `edges`: the lower end of what was told of each conversation."""

    archive: str
    until: datetime
    edge: datetime  # of what was told of all conversations
    edges: dict[str, datetime] = field(default_factory=dict)
    changes: dict[str, MessageRecord] = field(default_factory=dict)
    untold: dict[str, MessageRecord] = field(default_factory=dict)

    @classmethod
    def begin(cls, archive: str, until: datetime, reached: Mapping[str, Listed]) -> Walk:
        """`reached`: how far an earlier listing told the archive's conversations. It was cut in the
        lowest stretch that any of them names."""
        stretches = [found for one in reached.values() if (found := upper_end(archive, one.place))]
        edges = {peer: one.since for peer, one in reached.items()}
        return cls(archive, until, min(stretches, default=until), edges)

    def take(self, records: Iterable[MessageRecord]) -> None:
        """A page that is older than all before it."""
        for id, record in folded(records).items():
            known = self.changes.get(id)
            found = combine(record, known) if known else record
            if record.edited_at is not None or record.is_deleted:
                self.changes[id] = found
            self.untold[id] = found

    def tell(self, begin: datetime) -> Iterator[Listing]:
        """A window of each conversation that has messages from `begin` on."""
        ready = [id for id, one in self.untold.items() if one.sent_at >= begin]
        records = [self.untold.pop(id) for id in ready]
        yield from self._windows(begin, {one.conversation_id for one in records}, records)
        self.edge = begin

    def tell_rest(self, since: datetime) -> Iterator[Listing]:
        """The last window of every conversation."""
        records = list(self.untold.values())
        peers = {one.conversation_id for one in records} | self.edges.keys()
        yield from self._windows(since, peers, records)

    def _windows(
        self, begin: datetime, peers: Iterable[str], records: Sequence[MessageRecord]
    ) -> Iterator[Listing]:
        ids: dict[str, dict[str, str]] = {peer: {} for peer in sorted(peers)}
        for one in records:
            if not one.is_deleted:
                ids[one.conversation_id][one.external_id] = version(one)
        place = f"{self.archive} {self.edge.isoformat()}"
        for peer, told in ids.items():
            until = self.edges.get(peer, self.until)
            if begin < until:
                self.edges[peer] = begin
                yield Listing(RecordKind.MESSAGE, peer, begin, until, told, place)


async def list_ids(
    reader: Reader, since: datetime, done: Done = NOTHING_DONE
) -> AsyncIterator[Listing | None]:
    """The messages of each conversation since then, without those that were retracted."""
    until = max(datetime.now(UTC), since) + CLOCKS_APART
    reached: dict[str, dict[str, Listed]] = {}
    for (kind, scope), one in done.items():
        if kind is RecordKind.MESSAGE:
            archive = scope if scope in reader.archives else OWN
            reached.setdefault(archive, {})[scope] = one
    for archive in reader.archives:
        before = reached.get(archive, {})
        if archive != OWN and before and before[archive].since <= since:
            continue
        async for each in list_archive(reader, since, Walk.begin(archive, until, before)):
            yield each


async def list_archive(
    reader: Reader, since: datetime, walk: Walk
) -> AsyncIterator[Listing | None]:
    """Told as soon as the next page says how far down what was read reaches. None: a page came, and
    there is nothing to be told yet."""
    end = "" if walk.edge == walk.until else moment(walk.edge + timedelta(seconds=1))
    async for page in reader.backwards(walk.archive, start=moment(since), end=end):
        # Others of the same moment may have come with the page before.
        begin = max((one.sent_at for one in page), default=walk.edge) + CLOCK_TICK
        if len(walk.untold) >= listing.WINDOW and since < begin < walk.edge:
            for each in walk.tell(begin):
                yield each
        walk.take(page)
        yield None
    for each in walk.tell_rest(since):
        yield each


async def fetch(reader: Reader, peer: str, ids: Sequence[str]) -> AsyncIterator[Batch]:
    """Messages of a conversation as they are now, without those that were retracted.

    Archives are asked by their own ids only, so the conversation is read from its end back to the
    oldest one that is wanted; later versions come before their originals. An empty batch: another
    page came.
    """
    wanted, seen = set(ids), list[MessageRecord]()
    async for page in reader.backwards(*reader.where(peer)):
        seen += [record for record in page if record.external_id in wanted]
        originals = {record.external_id for record in seen if record.edited_at is None}
        if wanted <= originals:
            break
        yield Batch(None, fetched=True)
    rows = [one for one in folded(seen).values() if not one.is_deleted]
    for piece in slices(rows):
        records, refused = sorted_out(piece)
        yield Batch(None, records, refused, fetched=True)


def upper_end(archive: str, place: str) -> datetime | None:
    """Of the stretch that a window of this archive was told with."""
    name, _blank, told = place.rpartition(" ")
    return datetime.fromisoformat(told) if told and name == archive else None


def version(message: MessageRecord) -> str:
    """Another text for each edit. Archives tell seconds only, so two edits may have one time."""
    if message.edited_at is None:
        return message.sent_at.isoformat()
    return f"{message.edited_at.isoformat()} {zlib.crc32(message.text.encode()):08x}"
