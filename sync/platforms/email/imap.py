"""What this adapter asks of an IMAP server: folders, searches, mails, waiting."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from imapclient import imap_utf7

from sync.errors import PlatformUnavailable
from sync.platforms.email.answers import Literal, Untagged, mailbox, number_of, uid_set, words
from sync.platforms.email.line import Line, Refusal

ALIVE_TIMEOUT_S = 10.0  # for what a server answers at once
POLL_S = 10.0  # for servers without IDLE

NEWS = re.compile(rb"\* \d+ (EXISTS|EXPUNGE)")


@dataclass(frozen=True, slots=True)
class Folder:
    name: str
    validity: int
    next_uid: int
    exists: int


class Imap(Line):
    """A connection, with a folder entered or not."""

    folder: Folder | None = None

    async def introduce(self) -> None:
        """Say who we are (RFC 2971). NetEase (163, 126, yeah.net) opens no folder for who has not;
        others need not care."""
        if "ID" in self.capabilities:
            with contextlib.suppress(Refusal):
                await self.command("ID", b'("name" "Muster")')

    async def select(self, name: str, *, writable: bool = False) -> Folder:
        """Enter a folder. Raises `Refusal` when there is none of that name, `PlatformUnavailable`
        when the server does not tell what its mails are numbered by: nothing could be read, and
        nobody would see that."""
        verb = "SELECT" if writable else "EXAMINE"
        self.folder = None
        validity = next_uid = exists = 0
        for answer in await self.command(verb, mailbox(name)):
            if answer.kind == "EXISTS":
                exists = answer.number
            elif answer.kind == "OK":
                text = answer.raw().decode(errors="replace")
                validity = number_of("UIDVALIDITY", text) or validity
                next_uid = number_of("UIDNEXT", text) or next_uid
        if not validity or (exists and not next_uid):
            raise PlatformUnavailable(
                f"the mail server does not number the mails of {name} (UIDVALIDITY, UIDNEXT)"
            )
        self.folder = Folder(name, validity, next_uid or 1, exists)
        return self.folder

    async def sent_folder(self) -> str:
        """The folder that the server marks as \\Sent (RFC 6154), else one that is called so, else
        "Sent"."""
        named = ""
        for answer in await self.command("LIST", b'""', b'"*"'):
            if answer.kind != "LIST":
                continue
            try:
                flags, _separator, raw, *_more = answer.parsed()
            except ValueError:  # a name that can't be read is not the one that is looked for
                continue
            name = imap_utf7.decode(raw if isinstance(raw, bytes) else str(raw).encode())
            if isinstance(flags, tuple) and b"\\sent" in {bytes(one).lower() for one in flags}:
                return str(name)
            if re.fullmatch(r"(.*[./])?sent( (items|messages|mail))?", name, re.IGNORECASE):
                named = named or str(name)
        return named or "Sent"

    async def search(self, *criteria: bytes | Literal) -> list[int]:
        """UIDs, the smallest first. NOOP comes first, or fresh deliveries are missed."""
        await self.command("NOOP")
        found: set[int] = set()
        for answer in await self.command("UID SEARCH", *criteria):
            if answer.kind == "SEARCH":
                found.update(int(one) for one in answer.raw().split() if one.isdigit())
        return sorted(found)

    async def fetch(self, uids: Sequence[int], items: bytes) -> list[Untagged]:
        """The FETCH answers for these UIDs; none for a mail that is gone."""
        answers = await self.command("UID FETCH", uid_set(uids), b"(" + items + b")")
        return [one for one in answers if one.kind == "FETCH"]

    async def idle(self, wait_s: float) -> None:
        """Wait until something happens in the folder, or for `wait_s` seconds."""
        try:
            await self._idle(wait_s)
        except Refusal:  # it can't, or not for this folder
            await asyncio.sleep(min(wait_s, POLL_S))

    async def _idle(self, wait_s: float) -> None:
        if "IDLE" not in self.capabilities:
            raise Refusal("IDLE", "it is not among its capabilities")
        async with self._unbroken(None):
            tag = self._send(b"IDLE")
            async with asyncio.timeout(ALIVE_TIMEOUT_S):
                has_news = await self._idling(tag)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0 if has_news else wait_s):
                        while not NEWS.match(await self._line()):
                            pass
            finally:
                self._writer.write(b"DONE\r\n")
            async with asyncio.timeout(ALIVE_TIMEOUT_S):
                while not (await self._line()).startswith(tag):
                    pass

    async def _idling(self, tag: bytes) -> bool:
        """Wait until the server waits with us; whether it had news before. Raises `Refusal`."""
        has_news = False
        while not (line := await self._line()).startswith(b"+"):
            if line.startswith(tag + b" "):
                raise Refusal("IDLE", words(line, tag))
            has_news = has_news or NEWS.match(line) is not None
        return has_news

    async def append(self, folder: str, mail: bytes) -> None:
        """Put a mail that we wrote into a folder, as seen."""
        await self.command("APPEND", mailbox(folder), b"(\\Seen)", Literal(mail))

    async def mark_seen(self, uids: Sequence[int]) -> None:
        """The folder was entered writable."""
        await self.command("UID STORE", uid_set(uids), b"+FLAGS.SILENT (\\Seen)")
