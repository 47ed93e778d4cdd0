"""A whole Muster in a home of its own, driven as a person would drive it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from crm.env import Env
from lifecycle.agent.layout import Home
from lifecycle.agent.process import is_alive
from tests.processes import kill_all, processes_of
from tests.waiting import eventually

CHECKOUT = Path(__file__).resolve().parents[2]
READY_S = 90.0
PASSWORD = "a password for tests"
WORKER_STATE = """
    SELECT state FROM lifecycle_workerruntime runtime
    JOIN lifecycle_workerconfig config ON config.id = runtime.config_id
    WHERE config.worker_id = %s
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class System:
    """`manage.py up` in `home`. Nothing is started before `up()`."""

    def __init__(self, home: Path, port: int | None = None) -> None:
        self.home = home
        self.port = port or free_port()
        self.console = home.parent / f"{home.name}-console.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.variables: dict[str, str] = {}  # what else is set for its commands

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a person's shell would give: nothing of the test run's own world."""
        own = re.compile(r"MUSTER_|DATABASE_URL$|BROKER_URL$|DJANGO_SETTINGS_MODULE$|PYTEST_")
        return {name: value for name, value in os.environ.items() if not own.match(name)} | {
            "MUSTER_HOME": str(self.home),
            "MUSTER_ADMIN_PASSWORD": PASSWORD,
            "PORT": str(self.port),
            **self.variables,
        }

    def start(self) -> None:
        """Start `up` and return at once."""
        with self.console.open("wb") as console:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=CHECKOUT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def up(self) -> float:
        """Start unless it runs, wait until it is ready; seconds from start to ready."""
        if self.process and self.process.poll() is None:
            return 0.0
        begun = time.monotonic()
        self.start()
        eventually(self._ready_or_ended, READY_S)
        assert self.process
        assert self.process.poll() is None, self.said()
        return time.monotonic() - begun

    def _ready_or_ended(self) -> bool:
        assert self.process
        return f"ready {self.url}/admin/" in self.said() or self.process.poll() is not None

    def said(self) -> str:
        return self.console.read_text()

    def stop(self) -> float:
        """SIGTERM, then wait for the end; seconds that it took."""
        assert self.process
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)
        return time.monotonic() - begun

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CHECKOUT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def ps(self) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads(self.manage("ps", "--json").stdout)
        return seen

    def part(self, name: str) -> dict[str, Any]:
        """One part as `up.json` shows it now."""
        parts = json.loads((self.home / "run" / "up.json").read_text())["parts"]
        return next((part for part in parts if part["name"] == name), {})

    def database(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Straight to the database, past everything that is under test."""
        ours = Env.model_construct(home=self.home, database_url=None)
        return psycopg.connect(ours.resolved_database_url, connect_timeout=5)

    def worker_state(self, worker_id: str) -> str | None:
        """The state in the database; None when there is no answer now."""
        try:
            with self.database() as connection:
                row = connection.execute(WORKER_STATE, [worker_id]).fetchone()
        except psycopg.Error:
            return None
        return str(row[0]) if row else None

    def worker_pid(self, worker_id: str) -> int | None:
        """The pid of its living process."""
        for spawn in Home(self.home).spawns():
            recorded = spawn.processes()
            alive = recorded and recorded[1]
            if alive and alive.instance.worker_id == worker_id and is_alive(alive.process):
                return alive.process.pid
        return None

    def running_worker(self, worker_id: str = "worker-1") -> int:
        """The worker's pid, once it is running."""

        def running() -> int:
            pid = self.worker_pid(worker_id)
            return pid if pid and self.worker_state(worker_id) == "running" else 0

        return eventually(running)

    def processes(self) -> dict[int, str]:
        """Every process of this home, with its command line."""
        return processes_of(self.home)

    def kill_everything(self) -> None:
        """SIGKILL to every process of this home, `up` first: nobody can start anything again."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        kill_all(self.home)
