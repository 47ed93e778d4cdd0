"""Reading an account: its folders' mails as rows, and the place after them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sync.batches import slices, sorted_out
from sync.errors import CursorInvalid
from sync.platforms.email.letter import Letter, read_letter
from sync.platforms.email.mailbox import INBOX, Mailbox
from sync.platforms.email.place import Place, Stretch
from sync.platforms.email.threads import day
from sync.types import Batch, ConversationRecord, Refused
from sync.weights import Row

PAGE = 100  # mails
# One wait, well below the 29 minutes after which servers log clients out (RFC 2177). Between two of
# them the folder of sent mails is looked at: IDLE tells of one folder only.
LONGEST_IDLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Page:
    batches: list[Batch]
    after: Place


@dataclass(slots=True)
class Reader:
    """`ours`: the account's own addresses; `sent`: the folder of what it sent."""

    mailbox: Mailbox
    ours: Collection[str]
    sent: str
    _uids: dict[Stretch, list[int]] = field(default_factory=dict)  # of owed stretches

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        """News first, then one page of what is owed, and so on until nothing is; then wait."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        place = Place.parse(cursor)
        while True:
            seen = await self._look(place)
            has_news = bool(seen.owed)
            if seen.owed:
                page = await self._page(seen)
                for batch in page.batches:
                    yield batch
                place = page.after
                if place.owed:
                    continue
            elif seen != place:
                yield Batch(cursor=seen.text(), gaps=(), remaining=0)
                place = seen
            left_s = deadline - clock()
            if has_news or left_s <= 0:
                return
            await self._wait(place, left_s)

    async def _wait(self, place: Place, left_s: float) -> None:
        """Until something happens in the INBOX. Returns at once when it did before we listened."""
        folder = await self.mailbox.look(INBOX)
        known = place.folders.get(INBOX)
        if folder and known and folder.next_uid - 1 <= known.upto:
            await (await self.mailbox.imap()).idle(min(left_s, LONGEST_IDLE_S))

    async def _look(self, place: Place) -> Place:
        """Where the folders stand now. Raises `CursorInvalid`."""
        for name in dict.fromkeys((self.sent, INBOX)):  # what is looked at last is read first
            if folder := await self.mailbox.look(name):
                place = place.seen(name, folder.validity, folder.next_uid - 1)
        return place.model_copy(update={"since": ""}) if place.folders else place

    async def _page(self, place: Place) -> Page:
        """The newest page of the first owed stretch."""
        stretch = place.owed[0]
        folder = await self.mailbox.look(stretch.folder)
        if folder is None or folder.validity != place.folders[stretch.folder].validity:
            raise CursorInvalid(f"the folder {stretch.folder} is not what it was")
        uids = await self._uids_of(stretch)
        rows: list[Row] = []
        lowest = stretch.low
        if page := uids[-PAGE:]:
            letters, lowest = await self.mailbox.letters(folder, page)
            # In a thread: a long HTML mail takes a while, and the loop has other accounts.
            rows = await asyncio.to_thread(rows_of, letters, self.ours, self.sent)
        left = [uid for uid in uids if uid < lowest]
        after = place.read_down_to(lowest if left else stretch.low)
        del self._uids[stretch]
        if left:
            self._uids[after.owed[0]] = left
        remaining = sum(self._about(each) for each in after.owed)
        return Page(cut(rows, place, after, remaining), after)

    async def _uids_of(self, stretch: Stretch) -> list[int]:
        """Its mails, the oldest first. The folder is entered."""
        if stretch not in self._uids:
            within = b"UID %d:%d" % (stretch.low, stretch.high)
            if stretch.since:
                within += b" SINCE " + day(datetime.fromisoformat(stretch.since)).encode()
            found = await (await self.mailbox.imap()).search(within)
            self._uids[stretch] = [uid for uid in found if stretch.low <= uid <= stretch.high]
        return self._uids[stretch]

    def _about(self, stretch: Stretch) -> int:
        """How many mails it has, at most."""
        known = self._uids.get(stretch)
        return stretch.high - stretch.low + 1 if known is None else len(known)


def rows_of(letters: Iterable[Letter | Refused], ours: Collection[str], sent: str) -> list[Row]:
    """Each mail as a message, each thread before its first message."""
    rows: list[Row] = []
    threads: dict[str, ConversationRecord] = {}
    for letter in letters:
        if isinstance(letter, Refused):
            rows.append(letter)
            continue
        try:
            thread, message = read_letter(letter, ours, is_sent=letter.location.folder == sent)
        except ValueError as error:
            rows.append(letter.refused(str(error)))
            continue
        if threads.get(thread.external_id) != thread:
            threads[thread.external_id] = thread
            rows.append(thread)
        rows.append(message)
    return rows


def cut(rows: list[Row], before: Place, after: Place, remaining: int) -> list[Batch]:
    """Only the last batch carries the place after the page: a crash between them reads the page
    again and never skips [S4]."""
    pieces = list(slices(rows))
    batches = []
    for number, piece in enumerate(pieces, start=1):
        records, refused = sorted_out(piece)
        place = after if number == len(pieces) else before
        batches.append(
            Batch(
                cursor=place.text(),
                records=records,
                refused=refused,
                more=place is before or bool(after.owed),
                gaps=place.gaps(),
                remaining=remaining + sum(len(one) for one in pieces[number:]),
            )
        )
    return batches
