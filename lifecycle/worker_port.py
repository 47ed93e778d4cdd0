"""A worker's own port [L1]: `/healthz` for whoever asks, `/metrics` for who has the token.

One thread of the main process sleeps in `accept`; each request has a thread of its own while it is
answered. See docs/adr/0019-worker-port.md.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from celery import signals
from django.conf import settings

from lifecycle import services
from lifecycle.types import Level
from lifecycle.worker_metrics import Tally, WorkerMetrics
from lifecycle.worker_signals import Reporter

log = logging.getLogger(__name__)

RETRY_S = 1.0
# Who is replaced holds the port until it drains: not worth a word.
PATIENCE_TRIES = 15
REQUEST_S = 5.0
MOST_AT_ONCE = 8
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Answers:
    """What the port can tell. `trouble`: why the worker does not work, "" when it does."""

    trouble: Callable[[], str]
    metrics: Callable[[], bytes]
    token: str


class WorkerPort:
    """Takes the port as soon as it is free, and answers on it until `close`.

    `say(level, text)` is told when the port can't be had, and when it can be after all.
    """

    def __init__(
        self,
        address: tuple[str, int],
        answers: Callable[[], Answers],
        say: Callable[[Level, str], None],
    ) -> None:
        self._address, self._answers, self._say = address, answers, say
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self._room = threading.Semaphore(MOST_AT_ONCE)

    def start(self) -> None:
        os.register_at_fork(after_in_child=self._forget)
        threading.Thread(target=self._run, name="muster-port", daemon=True).start()

    def close(self) -> None:
        """Give the port up. Never waits: it is called where signals are handled."""
        self._closing.set()
        if self._listener is not None:
            self._stop_listening(self._listener)

    @staticmethod
    def _stop_listening(listener: socket.socket) -> None:
        try:
            listener.shutdown(socket.SHUT_RDWR)  # ends `accept`, whoever else has inherited it
        except OSError:
            log.debug("the port was closed already")
        listener.close()

    def _forget(self) -> None:
        """In a pool child: a port must not stay taken for as long as children live."""
        if self._listener is not None:
            self._listener.close()

    def _run(self) -> None:
        listener = self._take()
        if listener is None:
            return
        try:
            answers = self._answers()
            while not self._closing.is_set():
                self._accept(listener, answers)
        except OSError as error:
            if not self._closing.is_set():
                self._say(Level.WARNING, f"the port is given up: {error}")
        finally:
            listener.close()

    def _take(self) -> socket.socket | None:
        """The listening socket; None if the worker ends before there is one."""
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        shown = f"port {self._address[1]} on {self._address[0]}"
        tries = 0
        while not self._closing.is_set():
            try:
                self._listener = socket.create_server(self._address, family=family)
            except OSError as error:
                tries += 1
                if tries == PATIENCE_TRIES:
                    why = f"{shown} can't be taken: {_reason(error)}"
                    self._say(Level.WARNING, f"{why}; the worker works without, and tries on")
                self._closing.wait(RETRY_S)
            else:
                if tries >= PATIENCE_TRIES:
                    self._say(Level.INFO, f"listens on {shown}")
                return self._listener
        return None

    def _accept(self, listener: socket.socket, answers: Answers) -> None:
        link, peer = listener.accept()
        if self._room.acquire(blocking=False):
            threading.Thread(target=self._answer, args=(link, peer, answers), daemon=True).start()
        else:
            link.close()

    def _answer(self, link: socket.socket, peer: Any, answers: Answers) -> None:
        try:
            with link:
                Handler(link, peer, answers)  # type: ignore[arg-type]  # it asks no server
        except OSError as error:
            log.debug("a request on the worker's port broke off: %s", error)
        except Exception:
            log.exception("a request on the worker's port failed")
        finally:
            self._room.release()


def _reason(error: OSError) -> str:
    """Without what Python adds to it."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


class Handler(BaseHTTPRequestHandler):
    """One request; its `server` is the `Answers`. Errors have the shape of the API's."""

    timeout = REQUEST_S
    server_version, sys_version = "Muster", ""
    server: Any
    pages: ClassVar[dict[str, str]] = {"/healthz": "_healthz", "/metrics": "_metrics"}

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            getattr(self, page)()

    def _healthz(self) -> None:
        if reason := self.server.trouble():
            said = {"status": "unavailable", "reason": reason}
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, said)
        else:
            self._send(HTTPStatus.OK, {"status": "ok"})

    def _metrics(self) -> None:
        given = self.headers.get("Authorization", "").encode(errors="replace")
        if hmac.compare_digest(given, f"Bearer {self.server.token}".encode()):
            self._send_bytes(HTTPStatus.OK, TEXT_FORMAT, self.server.metrics())
        else:
            self.send_error(HTTPStatus.UNAUTHORIZED)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        status = HTTPStatus(code)
        error = {"code": status.name.lower(), "detail": message or status.phrase, "attr": None}
        kind = "client_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        self._send(status, {"type": kind, "errors": [error]})

    def _send(self, status: HTTPStatus, said: dict[str, Any]) -> None:
        self._send_bytes(status, "application/json", json.dumps(said).encode())

    def _send_bytes(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is not worth a line."""


def enlist(reporter: Reporter, address: tuple[str, int]) -> None:
    """Open the port of the worker that reports there, from its start until it drains."""
    instance, tally = reporter.instance, Tally()

    def answers() -> Answers:
        """Raises `OSError` when the token can be neither read nor made."""
        metrics = WorkerMetrics(instance.worker_id, reporter.consumer, tally)
        return Answers(reporter.trouble, metrics.text, settings.MUSTER.worker_metrics_token)

    def say(level: Level, text: str) -> None:
        log.log(getattr(logging, level.upper()), text)
        reporter.put(lambda: services.port_said(instance, level, text))

    port = WorkerPort(address, answers, say)
    tally.listen()
    signals.celeryd_init.connect(lambda **_: port.start(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: port.close(), weak=False)
