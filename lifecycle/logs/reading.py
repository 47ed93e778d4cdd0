"""Reading and following the log of a worker's process, secrets hidden."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import datetime
from functools import lru_cache
from typing import Any

from lifecycle import queries
from lifecycle.backends import backend_for
from lifecycle.backends.base import LogSource, LogStart
from lifecycle.logs.lines import (
    Annotator,
    Excerpt,
    LogLine,
    Missed,
    Piece,
    Splitter,
    last_lines,
    shown,
)
from lifecycle.logs.redaction import Redactor, secrets_in
from lifecycle.masking import SECRET_FIELDS
from lifecycle.models import WorkerConfig
from lifecycle.types import Level

HEARTBEAT_S = 15.0
TOLERANCE_S = 1.0  # signs of life come every 5 s, not to the millisecond
RETRY_MS = 2000
LASTS_S = 300.0  # of one stream: rights are looked at where it begins, and nowhere else
REMEMBERED = 256  # configs whose secrets to hide a process remembers


def redactor(config: WorkerConfig) -> Redactor:
    """Knows the secrets that the worker is given, and those that it was given by former versions of
    its config: older lines hold them."""
    present = _secrets(getattr(config, name) for name in SECRET_FIELDS)
    return _redactor(present | _former_secrets(config.pk, config.worker_id, config.version))


@lru_cache(maxsize=REMEMBERED)
def _former_secrets(_pk: int, worker_id: str, _version: int) -> frozenset[str]:
    """A change of the config has another version, and so is looked up anew."""
    return _secrets(queries.config_versions(worker_id, SECRET_FIELDS))


def _secrets(fields: Iterable[Any]) -> frozenset[str]:
    return frozenset(secret for field in fields for secret in secrets_in(field))


_redactor = lru_cache(maxsize=REMEMBERED)(Redactor)


def read(
    config: WorkerConfig,
    stream: str,
    tail: int,
    *,
    level: Level | None = None,
    since: datetime | None = None,
) -> Excerpt:
    """The last `tail` lines that are of `level` or above and not older than `since`.

    Raises `BackendError`.
    """
    start = LogStart(since=since) if level or since else LogStart(tail=tail)
    source = backend_for(config).read_log(config.worker_id, stream, start)
    found = last_lines(source.pieces(), tail, start=source.start, level=level, since=since)
    hide = redactor(config)
    lines = tuple(LogLine(hide(line.text), line.time, line.level, line.end) for line in found.lines)
    short = not source.whole and len(lines) < tail
    return Excerpt(lines, found.end, found.truncated or short)


def open_followed(config: WorkerConfig, stream: str, start: LogStart) -> LogSource:
    """Raises `BackendError`."""
    return backend_for(config).follow_log(config.worker_id, stream, start)


async def server_sent(source: LogSource, hide: Redactor) -> AsyncGenerator[bytes]:
    """The followed log as server-sent events, many lines in one chunk.

    `message`: one line, its id the place behind it. `missed`: files that were removed before they
    were read. `live`: all that was there has been sent. A comment every 15 s keeps proxies awake.

    Ends after `LASTS_S`, so that nobody reads on who was logged out or lost the right since; who
    may comes again with the last id [C3]. The first id is sent before any line: where none came,
    the reader goes on from there, too.
    """
    splitter, annotator = Splitter(), Annotator()
    live, begun = False, time.monotonic()
    said_at = begun
    yield f"retry: {RETRY_MS}\nid: {source.start}\n\n".encode()
    async with aclosing(source.follow()) as follow:
        async for found in follow:
            match found:
                case Piece():
                    read = [annotator.read(shown(raw), end) for raw, end in splitter.feed(found)]
                    said = b"".join(_event(line, hide) for line in read)
                case Missed():
                    splitter.forget()
                    files = json.dumps({"files": found.files})
                    said = f"event: missed\nid: {found.place}\ndata: {files}\n\n".encode()
                case None if not live:
                    live, said = True, b"event: live\ndata: {}\n\n"
                case None:
                    silent = time.monotonic() - said_at >= HEARTBEAT_S - TOLERANCE_S
                    said = b": still here\n\n" if silent else b""
            if said:
                said_at = time.monotonic()
                yield said
            if time.monotonic() - begun >= LASTS_S:
                return


def _event(line: LogLine, hide: Redactor) -> bytes:
    data: dict[str, Any] = {
        "line": hide(line.text),
        "level": line.level,
        "time": line.time.isoformat() if line.time else None,
    }
    return f"id: {line.end}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
