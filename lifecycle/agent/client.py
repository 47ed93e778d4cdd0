"""The agent's socket from the other side: master, web and `ps`. Blocking, with time limits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from lifecycle.agent.logclient import LogFeed
from lifecycle.agent.protocol import decode, encode
from lifecycle.errors import BackendUnavailable, SpawnRefused

CALL_TIMEOUT_S = 15.0
GLANCE_S = 1.0
PIECE_BYTES = 64 * 1024
# The agent sends a sign of life every 5 s on a watched connection.
WATCH_SILENCE_S = 15.0


class AgentClient:
    """Used by any number of threads: each call has a connection of its own for as long as it takes,
    and the last one is kept for the next call."""

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path
        self._kept: socket.socket | None = None
        self._keeping = threading.Lock()

    def call(
        self,
        verb: str,
        patience_s: float = CALL_TIMEOUT_S,
        meanwhile: Callable[[], None] | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """One request, one answer; `meanwhile` is called between the two.

        Raises `SpawnRefused` (can never work as asked) or `BackendUnavailable` (away, busy, slow).
        """
        request = encode({"verb": verb, **arguments})
        try:
            line = self._ask_kept(request, patience_s, meanwhile)
            return _answer(line or self._ask(self._connect(patience_s), request, meanwhile))
        except (OSError, ValueError) as error:
            raise BackendUnavailable(f"the agent did not answer: {error}") from error

    def reload_failure(self) -> str:
        """Why the newest code could not be loaded, for pages; "" also when the agent is away."""
        try:
            return str(self.call("status", patience_s=GLANCE_S)["reload_failure"])
        except BackendUnavailable:
            return ""

    def _ask_kept(
        self, request: bytes, patience_s: float, meanwhile: Callable[[], None] | None
    ) -> bytes:
        """Nothing when there is no connection, or its agent has ended: verbs may be repeated.

        Raises `TimeoutError`.
        """
        with self._keeping:
            connection, self._kept = self._kept, None
        if connection is None:
            return b""
        connection.settimeout(patience_s)
        try:
            return self._ask(connection, request, meanwhile)
        except ConnectionError:
            return b""

    def _ask(
        self, connection: socket.socket, request: bytes, meanwhile: Callable[[], None] | None
    ) -> bytes:
        """The line that answers; empty when the connection was closed. Raises `OSError`."""
        line = b""
        try:
            connection.sendall(request)
            if meanwhile:
                meanwhile()
            while not line.endswith(b"\n") and (piece := connection.recv(PIECE_BYTES)):
                line += piece
        except BaseException:
            connection.close()  # a late answer must not be taken for another's
            raise
        with self._keeping:
            if line.endswith(b"\n") and self._kept is None:
                self._kept = connection
                return line
        connection.close()
        return line

    def watch(self) -> Iterator[dict[str, Any]]:
        """A snapshot, then events, for as long as the agent lives. Raises `BackendUnavailable`."""
        try:
            with (
                closing(self._connect(WATCH_SILENCE_S)) as connection,
                connection.makefile("rb") as lines,
            ):
                connection.sendall(encode({"verb": "watch"}))
                for line in lines:
                    yield decode(line)
        except (OSError, ValueError) as error:
            raise BackendUnavailable(f"the agent is away: {error}") from error
        raise BackendUnavailable("the agent closed the connection")

    def open_log(self, verb: str, **arguments: Any) -> LogFeed:
        """A log that comes (`read_log`, `follow`). Raises `BackendUnavailable`."""
        try:
            connection = self._connect(CALL_TIMEOUT_S)
            try:
                connection.sendall(encode({"verb": verb, **arguments}))
                return LogFeed(connection, _answer(_first_line(connection)))
            except BaseException:
                connection.close()
                raise
        except (OSError, ValueError) as error:
            raise BackendUnavailable(f"the agent did not answer: {error}") from error

    def _connect(self, timeout_s: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(self.socket_path))
        except OSError:
            connection.close()
            raise
        return connection


def _first_line(connection: socket.socket) -> bytes:
    """One line and not a byte more: what follows belongs to somebody else."""
    line = b""
    while not line.endswith(b"\n") and (byte := connection.recv(1)):
        line += byte
    return line


def _answer(line: bytes) -> dict[str, Any]:
    if not line:
        raise BackendUnavailable("the agent closed the connection")
    message = decode(line)
    if "ok" in message:
        answer: dict[str, Any] = message["ok"]
        return answer
    if message.get("error") == "refused":
        raise SpawnRefused(message["message"])
    raise BackendUnavailable(str(message.get("message", "the agent gave no answer")))
