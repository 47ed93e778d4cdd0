"""One IMAP connection on asyncio streams (RFC 3501): commands out, answers in.

Only what this adapter needs. Answers are taken apart by IMAPClient's parser; its own connection is
a blocking one and would need a thread for each account that waits (docs/adr/0002).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from imapclient import imap_utf7

from sync.errors import PlatformError, PlatformUnavailable, RateLimited, Unreachable
from sync.platforms.email.answers import (
    Chunk,
    Literal,
    Untagged,
    mailbox,
    number_of,
    said,
    take_apart,
    uid_set,
    words,
)
from sync.platforms.email.credentials import Server

CONNECT_TIMEOUT_S = 15.0
COMMAND_TIMEOUT_S = 60.0  # between two lines: a search in a large mailbox takes its time
ALIVE_TIMEOUT_S = 10.0  # for what a server answers at once
LINE_LIMIT = 16 * 1024 * 1024  # one SEARCH answer with two million UIDs
LONGEST_LITERAL = 64 * 1024 * 1024  # bytes; a header has no limit of its own
POLL_S = 10.0  # for servers without IDLE
THROTTLE_S = 60.0

NEWS = re.compile(rb"\* \d+ (EXISTS|EXPUNGE)")
LITERAL = re.compile(rb"\{(\d+)\}\r\n$")
CODE = re.compile(r"\[([A-Z-]+)[^\]]*\]\s*")
# RFC 5530: these say nothing of name and password.
PASSING = frozenset({"UNAVAILABLE", "SERVERBUG", "INUSE", "LIMIT", "ALERT"})
THROTTLING = frozenset({"THROTTLED", "OVERQUOTA"})


class Refusal(PlatformError):
    """The server said NO or BAD. `code` is the response code of RFC 5530, "" without one."""

    def __init__(self, verb: str, text: str) -> None:
        found = CODE.match(text)
        self.code = found[1] if found else ""
        super().__init__(f"the mail server refuses {verb}: {text}")


class AuthRefused(Refusal):
    """Name and password are not taken."""


@dataclass(frozen=True, slots=True)
class Folder:
    name: str
    validity: int
    next_uid: int
    exists: int


class Imap:
    """Broken by any error and any cancellation in mid-command: ask `is_usable` and open another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._count = 0
        self.is_usable = True
        self.capabilities: frozenset[str] = frozenset()
        self.folder: Folder | None = None

    @classmethod
    async def open(cls, server: Server) -> Imap:
        """Connected and encrypted, not yet logged in. Raises `PlatformUnavailable`."""
        context = ssl.create_default_context() if server.is_tls else None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                opening = asyncio.open_connection(
                    server.host, server.port, ssl=context, limit=LINE_LIMIT
                )
                imap = cls(*await opening)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            raise Unreachable(f"can't reach the mail server: {said(error)}") from error
        async with imap._unbroken(CONNECT_TIMEOUT_S):
            greeting = await imap._answer()
            if greeting.kind not in {"OK", "PREAUTH"}:
                raise PlatformUnavailable("the mail server does not want us now")
            await imap._learn()
            if not server.is_tls:
                await imap._encrypt(server)
        return imap

    async def authenticate(self, username: str, password: str) -> None:
        """Raises `AuthRefused`."""
        try:
            if "AUTH=PLAIN" in self.capabilities:
                await self._sasl_plain(username, password)
            else:
                await self.command("LOGIN", Literal(username.encode()), Literal(password.encode()))
        except Refusal as refusal:
            if refusal.code in PASSING:
                raise PlatformUnavailable(str(refusal)) from None
            if refusal.code in THROTTLING:
                raise RateLimited(str(refusal), THROTTLE_S) from None
            raise AuthRefused("the login", str(refusal)) from None
        await self._learn()

    async def select(self, name: str, *, writable: bool = False) -> Folder:
        """Enter a folder. Raises `Refusal` when there is none of that name."""
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
        self.folder = Folder(name, validity, next_uid, exists)
        return self.folder

    async def sent_folder(self) -> str:
        """The folder that the server marks as \\Sent (RFC 6154), else one that is called so, else
        "Sent"."""
        named = ""
        for answer in await self.command("LIST", b'""', b'"*"'):
            if answer.kind != "LIST":
                continue
            flags, _separator, raw, *_more = answer.parsed()
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

    async def command(self, verb: str, *arguments: bytes | Literal) -> list[Untagged]:
        """Raises `Refusal`, `PlatformUnavailable`."""
        async with self._unbroken(None):
            tag = self._tag()
            line = b" ".join([tag, verb.encode()])
            for argument in arguments:
                if isinstance(argument, Literal):
                    line += b" {%d}\r\n" % len(argument.data)
                    await self._write(line)
                    await self._continuation(verb, tag)
                    line = argument.data
                else:
                    line += b" " + argument
            await self._write(line + b"\r\n")
            return await self._finished(verb, tag)

    def close(self) -> None:
        """Say goodbye, and don't wait for the answer."""
        if self.is_usable:
            self._send(b"LOGOUT")
            self._writer.close()
        self.is_usable = False

    def abort(self) -> None:
        self.is_usable = False
        self._writer.transport.abort()

    # --- the wire -----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _unbroken(self, timeout_s: float | None) -> AsyncIterator[None]:
        """Whatever ends a command in its middle, ends the connection, too."""
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except Refusal:
            raise
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            self.abort()
            raise PlatformUnavailable(f"lost the mail server: {said(error)}") from error
        except BaseException:
            self.abort()
            raise

    async def _encrypt(self, server: Server) -> None:
        if "STARTTLS" in self.capabilities:
            await self.command("STARTTLS")
            await self._writer.start_tls(ssl.create_default_context(), server_hostname=server.host)
            await self._learn()
        elif not server.may_be_plain:
            raise PlatformUnavailable(
                "the mail server offers no encryption, and no password is sent without it"
            )

    async def _learn(self) -> None:
        for answer in await self.command("CAPABILITY"):
            if answer.kind == "CAPABILITY":
                self.capabilities = frozenset(answer.raw().decode().upper().split())

    async def _sasl_plain(self, username: str, password: str) -> None:
        response = base64.b64encode(f"\0{username}\0{password}".encode())
        if "SASL-IR" in self.capabilities:
            await self.command("AUTHENTICATE", b"PLAIN", response)
            return
        async with self._unbroken(None):
            tag = self._send(b"AUTHENTICATE PLAIN")
            await self._continuation("AUTHENTICATE", tag)
            self._writer.write(response + b"\r\n")
            await self._finished("AUTHENTICATE", tag)

    def _tag(self) -> bytes:
        self._count += 1
        return b"M%d" % self._count

    def _send(self, command: bytes) -> bytes:
        tag = self._tag()
        self._writer.write(tag + b" " + command + b"\r\n")
        return tag

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            await self._writer.drain()

    async def _continuation(self, verb: str, tag: bytes) -> None:
        """Wait for leave to go on. Raises `Refusal`."""
        while True:
            line = await self._timely_line()
            if line.startswith(b"+"):
                return
            if line.startswith(tag + b" "):
                raise Refusal(verb, words(line, tag))

    async def _finished(self, verb: str, tag: bytes) -> list[Untagged]:
        answers: list[Untagged] = []
        while True:
            answer = await self._answer(tag)
            if answer.kind == tag.decode():
                text = answer.raw().decode(errors="replace").strip()
                if text.upper().startswith("OK"):
                    return answers
                raise Refusal(verb, text.partition(" ")[2])
            answers.append(answer)

    async def _answer(self, tag: bytes = b"*") -> Untagged:
        """One whole answer with its literals. Raises `PlatformUnavailable` at a BYE."""
        chunks: list[Chunk] = []
        line = await self._timely_line()
        while literal := LITERAL.search(line):
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                data = await self._reader.readexactly(size_of(literal[1]))
            chunks.append((line.removesuffix(b"\r\n"), data))
            line = await self._timely_line()
        chunks.append(line.removesuffix(b"\r\n"))
        return take_apart(chunks, tag)

    async def _timely_line(self) -> bytes:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            return await self._line()

    async def _line(self) -> bytes:
        line = await self._reader.readuntil(b"\r\n")
        if line[:5].upper() == b"* BYE":
            text = line[5:].decode(errors="replace").strip()
            raise PlatformUnavailable(f"the mail server ends the connection: {text}")
        return line


def size_of(number: bytes) -> int:
    """Raises `ValueError` for a size that nobody asked for."""
    if len(number) > 9 or int(number) > LONGEST_LITERAL:
        raise ValueError("the mail server sends more than was asked for")
    return int(number)
