"""The verbs `read_log` and `follow`: a log as it is, piece by piece, as fast as it is taken.

Nothing is buffered for a slow reader but what its socket holds: the files are the buffer, and what
rotation took from it before it came so far is said.
"""

from __future__ import annotations

import asyncio
from typing import Any

from lifecycle.agent import logfiles
from lifecycle.agent.layout import STREAMS, Home
from lifecycle.agent.protocol import encode
from lifecycle.logs.lines import Missed, Piece, Place
from lifecycle.types import WORKER_ID

# Nobody follows: no polling. Somebody does: one stat and one read, five times a second.
POLL_S = 0.2
SIGN_OF_LIFE_S = 5.0


async def send_log(
    home: Home,
    request: dict[str, Any],
    connection: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Answer one request to its end, or until the other side goes."""
    try:
        log = home.log_file(_worker(request["worker_id"]), _stream(request["stream"]))
        place, whole = await asyncio.to_thread(_begin, log, request)
    except (KeyError, TypeError, ValueError) as error:
        message = f"{type(error).__name__}: {error}"
        writer.write(encode({"error": "bad_request", "message": message}))
        return
    writer.write(encode({"ok": {"place": str(place), "whole": whole}}))
    log_reader = logfiles.LogReader(log, place)
    try:
        if request["verb"] == "follow":
            await _follow(log_reader, connection, writer)
        else:
            await _send_all(log_reader, writer)
            writer.write(encode({"event": "end"}))
            await writer.drain()
    finally:
        log_reader.close()


def _worker(worker_id: Any) -> str:
    if not isinstance(worker_id, str) or not WORKER_ID.fullmatch(worker_id):
        raise ValueError(f"{worker_id!r} is no worker id")
    return worker_id


def _stream(stream: Any) -> str:
    if stream not in STREAMS:
        raise ValueError(f"stream is one of {', '.join(STREAMS)}")
    return str(stream)


def _begin(log: Any, request: dict[str, Any]) -> tuple[Place, bool]:
    """Where to begin: `after` a place, with the last `tail` lines, or with what is not older than
    `since` (seconds of the epoch; 0: as far back as a filter may look)."""
    if request.get("after"):
        return Place.parse(request["after"]), True
    if request.get("tail") is not None:
        return logfiles.place_of_tail(log, int(request["tail"]))
    return logfiles.place_of_bytes(log, float(request["since"]))


async def _send_all(log: logfiles.LogReader, writer: asyncio.StreamWriter) -> None:
    while found := log.read():
        writer.write(_frame(found))
        await writer.drain()


async def _follow(
    log: logfiles.LogReader, connection: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    loop = asyncio.get_running_loop()
    said_at = float("-inf")
    while not connection.at_eof():
        before = log.place
        await _send_all(log, writer)
        if log.place == before and loop.time() - said_at >= SIGN_OF_LIFE_S:
            writer.write(encode({"event": "alive"}))
            await writer.drain()
            said_at = loop.time()
        await asyncio.sleep(POLL_S)


def _frame(found: Piece | Missed) -> bytes:
    if isinstance(found, Missed):
        return encode({"place": str(found.place), "missed": found.files})
    return encode({"place": str(found.place), "bytes": len(found.data)}) + found.data
