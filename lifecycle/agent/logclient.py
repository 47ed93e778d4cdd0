"""A log that comes over the agent's socket: read to its end, or followed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from typing import Any

from lifecycle.agent.protocol import decode
from lifecycle.errors import BackendUnavailable
from lifecycle.logs.lines import Missed, Piece, Place

SILENCE_S = 15.0  # the agent gives a sign of life every 5 s
LIMIT_BYTES = 256 * 1024


class LogFeed:
    """An answered request for a log. Used once: `pieces` blocks, `follow` is for an event loop."""

    def __init__(self, connection: socket.socket, answer: dict[str, Any]) -> None:
        self._connection = connection
        self.start = Place.parse(answer["place"])
        self.whole: bool = answer["whole"]  # False: what was asked for goes further back

    def pieces(self) -> Iterator[Piece | Missed]:
        """The log up to its end as it is now. Raises `BackendUnavailable`."""
        try:
            with closing(self._connection), self._connection.makefile("rb") as stream:
                while (header := decode(stream.readline())).get("event") != "end":
                    found = _found(header, stream.read(header.get("bytes", 0)))
                    if found:
                        yield found
        except (OSError, ValueError) as error:
            raise BackendUnavailable(f"the agent went away: {error}") from error

    async def follow(self) -> AsyncGenerator[Piece | Missed | None]:
        """Pieces as they come; None when there is nothing more, and from then on as a sign of life
        every 5 s. Raises `BackendUnavailable`."""
        reader, writer = await asyncio.open_unix_connection(
            sock=self._connection, limit=LIMIT_BYTES
        )
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):
                    header = decode(await reader.readline())
                    data = await reader.readexactly(header.get("bytes", 0))
                yield _found(header, data)
        except (OSError, EOFError, ValueError) as error:
            raise BackendUnavailable(f"the agent went away: {error}") from error
        finally:
            writer.close()


def _found(header: dict[str, Any], data: bytes) -> Piece | Missed | None:
    if "bytes" in header:
        if len(data) < header["bytes"]:
            raise ValueError("the connection ended inside a piece")
        return Piece(Place.parse(header["place"]), data)
    if "missed" in header:
        return Missed(Place.parse(header["place"]), header["missed"])
    return None
