"""The fake platform's server as a process of its own: it outlives whoever is killed beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from crm.demo.synapse import free_port

START_TIMEOUT_S = 30
POLL_S = 0.02
CHECKOUT = Path(__file__).parents[2]


class FakeServer:
    """One server; what it holds is journalled in `directory`, so that it may be killed.

    As a context manager it runs inside the block.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=self.url, timeout=60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it, with these variables beside our own, and wait until it answers."""
        command = [sys.executable, "-m", "tests.fake.server", str(self.directory), str(self.port)]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(int(START_TIMEOUT_S / POLL_S)):
            try:
                self.control("happened")
            except httpx.TransportError:
                pass
            else:
                return
            try:
                self._process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                continue
            break
        raise RuntimeError((self.directory / "server.log").read_text())

    def kill(self) -> None:
        """SIGKILL. Twice is fine."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def control(self, command: str, **given: Any) -> Any:
        """Carry out a command of `tests.fake.server.Server.control`; raises for one it refuses."""
        response = self._http.post(f"/control/{command}", json=given)
        if response.is_error:
            raise RuntimeError(f"{command}: {response.text}")
        return response.json()

    def __enter__(self) -> FakeServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._http.close()
