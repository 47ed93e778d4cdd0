"""A double's HTTP server: JSON in and out, orders of the test below /control, all of it kept in a
file, so that it can be killed. `python -m tests.doubles.<name> <port> <file>`.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, dict[str, Any]]


class Double:
    """The platform. Whatever changes it is an order that is written down first."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.changed = threading.Condition()
        for line in file.read_text().splitlines() if file.exists() else ():
            self.do(json.loads(line))

    def do(self, order: dict[str, Any]) -> Any:
        """Carry an order out; what it returns goes back to the test."""
        raise NotImplementedError

    def answer(self, method: str, path: str, given: dict[str, Any]) -> Answer:
        """The platform's own API; `given`: query, form and JSON body in one."""
        raise NotImplementedError

    def order(self, order: dict[str, Any]) -> Any:
        with self.changed:
            with self.file.open("a") as file:
                file.write(json.dumps(order) + "\n")
            done = self.do(order)
            self.changed.notify_all()
        return done


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: else each answer waits 40 ms for the other end's acknowledgement.
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True
    double: Double

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given: dict[str, Any] = dict(parse_qsl(parts.query))
        given["headers"] = {name.lower(): value for name, value in self.headers.items()}
        if "json" in (self.headers.get("Content-Type") or ""):
            given |= json.loads(body or b"{}")
        else:
            given |= dict(parse_qsl(body.decode()))
        if parts.path == "/control":
            given.pop("headers")
            status, said = 200, {"done": self.double.order(given)}
        else:
            status, said = self.double.answer(self.command, parts.path, given)
        data = json.dumps(said).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # whoever asked has gone
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that was cut off."""


def serve(kind: type[Double]) -> None:
    port, file = int(sys.argv[1]), Path(sys.argv[2])
    handler = type("Bound", (Handler,), {"double": kind(file)})
    Server(("127.0.0.1", port), handler).serve_forever()
