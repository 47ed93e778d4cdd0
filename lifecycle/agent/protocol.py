"""How master, web and agent talk: one JSON object a line, over a Unix socket.

A request is `{"verb": …, …}`, its answer `{"ok": {…}}` or `{"error": kind, "message": text}` where
kind is `refused` (can never work as asked), `busy` (can't be done now) or `bad_request`. The verb
`watch` answers with a snapshot, then an event a line for as long as the connection lives.

The verbs `read_log` and `follow` answer with `{"ok": {"place", "whole"}}`, then with frames: pieces
of the log as they are, each `{"place": "41:1024", "bytes": n}` and then n bytes; `{"place": …,
"missed": files}`; `{"event": "alive"}` when there is nothing more (`follow` goes on, and says so
again every 5 s); `{"event": "end"}`.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

LONGEST_LINE = 4 * 1024 * 1024
# Between agent, zygote and keepers.
MESSAGE_BYTES = 64 * 1024
# A spare that has been told whom to start is told to start it; so is its worker, with the lock.
GO = b"go"


class Word(StrEnum):
    """What a keeper tells the agent of its worker."""

    STARTED = "started"  # with the record of the two processes
    REFUSED = "refused"  # with the reason: it can never start as configured
    BUSY = "busy"  # somebody holds its lock
    ENDED = "ended"  # with how; nothing of its process tree is left
    DONE = "done"  # the exit is on record and the lock free: the next one may start


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Raises `ValueError` when the line is not one JSON object."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is one JSON object")  # noqa: TRY004 - bad data, not a bug
    return message
