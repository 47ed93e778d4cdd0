"""A double in a process of its own, which can be killed and comes back with all it had."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.contract.suite.clock import skewed
from tests.waiting import until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class DoubleProcess:
    """`async with DoubleProcess("telegram", folder) as double`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.file = name, folder / f"{name}.jsonl"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    async def __aenter__(self) -> DoubleProcess:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        await self._http.aclose()

    async def start(self, clock_offset_s: float = 0) -> None:
        module = [sys.executable, "-m", f"tests.doubles.{self.name}"]
        self._process = subprocess.Popen(
            [*module, str(self.port), str(self.file)],
            env={**os.environ, **skewed(clock_offset_s)},
        )
        await until(self._answers)

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, "the double did not start"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    async def order(self, what: str, **more: Any) -> Any:
        """Have something happen on the platform."""
        answer = await self._http.post("/control", json={"order": what, **more})
        answer.raise_for_status()
        return answer.json()["done"]
