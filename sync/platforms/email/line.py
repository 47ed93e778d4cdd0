"""The wire to an IMAP server, on asyncio streams (RFC 3501): commands out, answers in.

Answers are taken apart by IMAPClient's parser; its own connection is
a blocking one and would need a thread for each account that waits (docs/adr/0002).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from typing import Self

from sync.errors import PlatformError, PlatformUnavailable, RateLimited, Unreachable
from sync.platforms.email.answers import (
    Chunk,
    Literal,
    Untagged,
    said,
    take_apart,
    words,
)
from sync.platforms.email.credentials import Server

CONNECT_TIMEOUT_S = 15.0
COMMAND_TIMEOUT_S = 60.0  # between two lines: a search in a large mailbox takes its time
LINE_LIMIT = 16 * 1024 * 1024  # one SEARCH answer with two million UIDs
LONGEST_LITERAL = 64 * 1024 * 1024  # bytes; a header has no limit of its own
THROTTLE_S = 60.0

LITERAL = re.compile(rb"\{(\d+)\}\r\n$")
CODE = re.compile(r"\[([A-Z-]+)[^\]]*\]\s*")
# RFC 5530: these say nothing of name and password.
PASSING = frozenset({"UNAVAILABLE", "SERVERBUG", "INUSE", "LIMIT", "ALERT"})
THROTTLING = frozenset({"THROTTLED", "OVERQUOTA"})
# And these nothing of what was asked.
NOT_NOW = frozenset({"UNAVAILABLE", "INUSE"})


class Refusal(PlatformError):
    """The server said NO or BAD. `code` is the response code of RFC 5530, "" without one."""

    def __init__(self, verb: str, text: str) -> None:
        found = CODE.match(text)
        self.code = found[1] if found else ""
        super().__init__(f"the mail server refuses {verb}: {text}")


class AuthRefused(Refusal):
    """Name and password are not taken."""


class Line:
    """Broken by any error and any cancellation in mid-command: ask `is_usable` and open another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._count = 0
        self.is_usable = True
        self.capabilities: frozenset[str] = frozenset()

    @classmethod
    async def open(cls, server: Server) -> Self:
        """Connected and encrypted, not yet logged in. Raises `PlatformUnavailable`."""
        context = ssl.create_default_context() if server.is_tls else None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                opening = asyncio.open_connection(
                    server.host, server.port, ssl=context, limit=LINE_LIMIT
                )
                line = cls(*await opening)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            raise Unreachable(f"can't reach the mail server: {said(error)}") from error
        async with line._unbroken(CONNECT_TIMEOUT_S):
            greeting = await line._answer()
            if greeting.kind not in {"OK", "PREAUTH"}:
                raise PlatformUnavailable("the mail server does not want us now")
            await line._learn()
            if not server.is_tls:
                await line._encrypt(server)
        return line

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
            await self._require_silence()
            await self._writer.start_tls(ssl.create_default_context(), server_hostname=server.host)
            await self._learn()
        elif not server.may_be_plain:
            raise PlatformUnavailable(
                "the mail server offers no encryption, and no password is sent without it"
            )

    async def _require_silence(self) -> None:
        """What somebody in between has put behind the plain answer would be taken for an answer
        inside of the encryption: the stream's buffer stays. Raises `ValueError`."""
        early = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                early = await self._reader.read(1)
        if early:
            raise ValueError("it spoke before the encryption began")

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
