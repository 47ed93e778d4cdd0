"""The wire between an adapter and a real server: a TCP proxy that breaks when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

PIECE = 64 * 1024  # bytes


class Wire:
    """Passes bytes on until it is told to break. Each order is carried out once.

    It speaks no protocol: a test's words must go over it as plain ASCII.
    """

    def __init__(self, port: int) -> None:
        """`port`: the server's, on loopback; it may change while the wire runs."""
        self.server_port = port
        self.port = 0
        self.broken = 0  # how many times it broke on order
        self._answer_bytes_left: int | None = None
        self._lost_answer = self._lost_request = b""
        self._open: set[asyncio.StreamWriter] = set()

    def cut_answers_after(self, size: int) -> None:
        """Let `size` more bytes of answers pass, then break in the middle."""
        self._answer_bytes_left = size

    def lose_answer_to(self, words: str) -> None:
        """Pass a request with these words on; the server's next answer to it gets lost."""
        self._lost_answer = words.encode("ascii")

    def lose_request_with(self, words: str) -> None:
        """Break before a piece of a request with these words gets to the server."""
        self._lost_request = words.encode("ascii")

    async def pass_on(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """Serve one connection of the adapter."""
        self._open.add(answers)
        try:
            server, requests = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:
            self._open.discard(answers)
            answers.transport.abort()
            return
        self._open.add(requests)
        line = _Line(self, client, requests, server, answers)
        try:
            await line.run()
        except asyncio.CancelledError:  # the loop ends; streams would log it as a mistake
            return
        finally:
            for end in (requests, answers):
                self._open.discard(end)
                end.transport.abort()

    async def close(self) -> None:
        for end in list(self._open):
            end.transport.abort()

    def cut(self, piece: bytes) -> tuple[bytes, bool]:
        """What of a piece of an answer may pass, and whether the wire breaks after it."""
        if self._answer_bytes_left is None:
            return piece, False
        if len(piece) < self._answer_bytes_left:
            self._answer_bytes_left -= len(piece)
            return piece, False
        piece = piece[: self._answer_bytes_left]
        self._answer_bytes_left = None
        self.broken += 1
        return piece, True

    def takes_request(self, recent: bytes) -> bool:
        """Whether the request goes missing whose latest bytes these are."""
        if not self._lost_request or self._lost_request not in recent:
            return False
        self._lost_request = b""
        self.broken += 1
        return True

    def takes_answer(self, recent: bytes) -> bool:
        """Whether the answer to the request goes missing whose latest bytes these are."""
        if not self._lost_answer or self._lost_answer not in recent:
            return False
        self._lost_answer = b""
        self.broken += 1
        return True


class _Line:
    """One connection through the wire."""

    def __init__(
        self,
        wire: Wire,
        client: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        answers: asyncio.StreamWriter,
    ) -> None:
        self.wire = wire
        self.client, self.requests = client, requests
        self.server, self.answers = server, answers
        self.loses_answer = False

    async def run(self) -> None:
        """Until either end closes or the wire breaks."""
        ways = [asyncio.create_task(way) for way in (self._up(), self._down())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _up(self) -> None:
        recent = b""
        with suppress(ConnectionError):
            while piece := await self.client.read(PIECE):
                recent = recent[-PIECE:] + piece
                if self.wire.takes_request(recent):
                    return
                if self.wire.takes_answer(recent):
                    self.loses_answer = True
                self.requests.write(piece)
                await self.requests.drain()

    async def _down(self) -> None:
        with suppress(ConnectionError):
            while piece := await self.server.read(PIECE):
                if self.loses_answer:
                    return
                piece, breaks = self.wire.cut(piece)
                self.answers.write(piece)
                await self.answers.drain()
                if breaks:
                    return


@asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    """A wire to the server at `port`, for as long as the block runs."""
    wire = Wire(port)
    listener = await asyncio.start_server(wire.pass_on, "127.0.0.1", 0)
    wire.port = listener.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        listener.close()
        await wire.close()
