"""A logged-in IMAP connection that is there when it is needed, and mails fetched through it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imapclient.datetime_util import parse_to_datetime

from sync.errors import LoginExpired, PlatformUnavailable
from sync.platforms.email.answers import Untagged
from sync.platforms.email.credentials import Server
from sync.platforms.email.headers import digest
from sync.platforms.email.imap import Folder, Imap
from sync.platforms.email.letter import TEXT_LIMIT, Letter, Location
from sync.platforms.email.line import AuthRefused, Refusal
from sync.platforms.email.structure import structure
from sync.types import RecordKind, Refused

INBOX = "INBOX"
SKETCH = b"UID INTERNALDATE BODYSTRUCTURE BODY.PEEK[HEADER]"
UID = re.compile(rb"UID (\d+)")
# Text that is held in memory at a time, as transferred.
FETCHED_BYTES = 2 * 1024 * 1024

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Login:
    server: Server
    username: str
    password: str


class Mailbox:
    """Opens its connection at the first need, and anew after it broke."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._imap: Imap | None = None

    async def imap(self) -> Imap:
        """Raises `LoginExpired` when name and password are not taken (any more)."""
        if self._imap is None or not self._imap.is_usable:
            try:
                self._imap = await self.open()
            except AuthRefused as refusal:
                raise LoginExpired(str(refusal)) from None
        return self._imap

    async def open(self) -> Imap:
        """A connection of its own. Raises `AuthRefused`."""
        imap = await Imap.open(self.login.server)
        try:
            await imap.authenticate(self.login.username, self.login.password)
            await imap.introduce()
        except BaseException:
            imap.abort()
            raise
        return imap

    def adopt(self, imap: Imap) -> None:
        self.close()
        self._imap = imap

    def close(self) -> None:
        if self._imap is not None:
            self._imap.close()
            self._imap = None

    async def look(self, name: str, *, writable: bool = False) -> Folder | None:
        """Enter the folder and see how far it reaches; None when there is none. Raises `Refusal`
        when it is only not `writable`, `PlatformUnavailable` when there is no INBOX."""
        imap = await self.imap()
        try:
            return await imap.select(name, writable=writable)
        except Refusal as refusal:
            if writable:
                raise
            if name == INBOX:
                raise PlatformUnavailable(
                    f"the mail server does not open the INBOX: {refusal}"
                ) from None
            return None

    async def letters(
        self, folder: Folder, uids: Sequence[int]
    ) -> tuple[list[Letter | Refused], int]:
        """The newest of these mails, as many as fit, the newest last; and the lowest UID of them.

        The folder must be entered. A mail that is gone is left out; one that the server can't give
        or that makes no sense is refused, and its neighbours are not.
        """
        found, broken = await self._fetch(folder, uids, SKETCH)
        taken: list[Letter | Refused] = []
        size, lowest = 0, min(uids)
        for uid in sorted(uids, reverse=True):
            if uid in broken:
                taken.append(broken[uid])
            elif uid in found:
                letter = self._sketch(folder, uid, found[uid])
                taken.append(letter)
                size += text_size(letter)
            if size > FETCHED_BYTES:
                lowest = uid
                break
        filled = await self._filled(folder, [one for one in taken if isinstance(one, Letter)])
        done = [
            filled.get(one.location.uid, one) if isinstance(one, Letter) else one for one in taken
        ]
        return list(reversed(done)), lowest

    async def fields(self, folder: Folder, uids: Sequence[int], items: bytes) -> dict[int, Fields]:
        """Some fields of mails, by UID; those that are gone or broken are left out."""
        found, _broken = await self._fetch(folder, uids, items)
        return found

    async def _filled(
        self, folder: Folder, letters: Iterable[Letter]
    ) -> dict[int, Letter | Refused]:
        """The letters with their text, by UID; those of one make are fetched together."""
        alike: dict[tuple[str, ...], dict[int, Letter]] = {}
        for letter in letters:
            if numbers := wanted(letter):
                alike.setdefault(numbers, {})[letter.location.uid] = letter
        filled: dict[int, Letter | Refused] = {}
        for numbers, group in alike.items():
            items = b" ".join(b"BODY.PEEK[%s]" % number.encode() for number in numbers)
            found, broken = await self._fetch(folder, list(group), b"UID " + items)
            filled.update(broken)
            for uid, fields in found.items():
                contents = {number: data(fields.get(f"BODY[{number}]")) for number in numbers}
                filled[uid] = group[uid].model_copy(update={"contents": contents})
        return filled

    def _sketch(self, folder: Folder, uid: int, fields: Fields) -> Letter | Refused:
        location = Location(
            server=f"{self.login.server.host}:{self.login.server.port}",
            user=self.login.username,
            folder=folder.name,
            validity=folder.validity,
            uid=uid,
        )
        header = data(fields.get("BODY[HEADER]"))
        letter = Letter(location=location, received_at=received_at(fields), header=header)
        try:
            made = structure(fields.get("BODYSTRUCTURE"))
        except ValueError as error:
            return letter.refused(str(error))
        return letter.model_copy(update={"parts": made.parts, "is_sealed": made.is_sealed})

    async def _fetch(
        self, folder: Folder, uids: Sequence[int], items: bytes
    ) -> tuple[dict[int, Fields], dict[int, Refused]]:
        """Fields by UID; and the mails that the server can't give, or gives in no sensible way."""
        imap = await self.imap()
        if imap.folder != folder:  # it was opened anew meanwhile
            raise PlatformUnavailable("lost the mail server in mid-reading")
        try:
            answers = await imap.fetch(uids, items)
        except Refusal as refusal:
            if len(uids) == 1:
                return {}, {uids[0]: unreadable(folder, uids[0], str(refusal), b"")}
            found: dict[int, Fields] = {}
            broken: dict[int, Refused] = {}
            for uid in uids:
                one, bad = await self._fetch(folder, [uid], items)
                found |= one
                broken |= bad
            return found, broken
        return await asyncio.to_thread(sort_out, folder, answers, set(uids))


def sort_out(
    folder: Folder, answers: Iterable[Untagged], asked: set[int]
) -> tuple[dict[int, Fields], dict[int, Refused]]:
    found: dict[int, Fields] = {}
    broken: dict[int, Refused] = {}
    for answer in answers:
        try:
            fields = fields_of(answer)
        except (ValueError, TypeError, IndexError, RecursionError) as error:
            named = UID.search(answer.raw())
            uid = int(named[1]) if named else 0
            if uid in asked:
                why = f"the server's answer makes no sense: {error}"
                broken[uid] = unreadable(folder, uid, why, answer.raw())
            continue
        if (number := fields.get("UID")) in asked and isinstance(number, int):
            found.setdefault(number, {}).update(fields)
    return found, broken


def fields_of(answer: Untagged) -> Fields:
    items = answer.parsed()[0]
    if not isinstance(items, tuple):
        raise TypeError("no list of fields")
    names = (bytes(one).decode("ascii", "replace").upper() for one in items[::2])
    return dict(zip(names, items[1::2], strict=True))


def unreadable(folder: Folder, uid: int, why: str, raw: bytes) -> Refused:
    return Refused(
        kind=RecordKind.MESSAGE,
        external_id=digest(f"{folder.name}/{folder.validity}/{uid}".encode()),
        raw=json.dumps({"answer": raw.decode("latin-1")}),
        error=f"mail {uid} of {folder.name} can't be read: {why}",
    )


def wanted(letter: Letter) -> tuple[str, ...]:
    """The numbers of the parts to fetch; none where there is too much to keep."""
    texts = letter.structure.texts
    if sum(part.size for part in texts) > TEXT_LIMIT:
        return ()
    return tuple(part.number for part in texts)


def text_size(letter: Letter | Refused) -> int:
    if isinstance(letter, Refused):
        return len(letter.raw)
    size = sum(part.size for part in letter.structure.texts)
    return len(letter.header) + (size if size <= TEXT_LIMIT else 0)


def data(value: object) -> bytes:
    """A field's bytes; the parser makes numbers of digits."""
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


def received_at(fields: Fields) -> datetime:
    """INTERNALDATE, the beginning of time where the server tells none."""
    try:
        found: datetime = parse_to_datetime(data(fields.get("INTERNALDATE")), normalise=False)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return found.astimezone(UTC)
