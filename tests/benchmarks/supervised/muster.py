"""Muster as it runs: durable PostgreSQL, Valkey, master and agent, in a home of its own.

The environment of this process is set for that home: services are called in it, as the web does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

CHECKOUT = Path(__file__).resolve().parents[3]  # crm.env would read the environment: not yet


Row = tuple[str, int, int | None]  # state, generation, process id

LOOK = """
    SELECT r.state, r.generation, r.process_id
    FROM lifecycle_workerruntime r JOIN lifecycle_workerconfig c ON c.id = r.config_id
    WHERE c.worker_id = %s
"""
COMMITTED = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(r.xmin))
    FROM lifecycle_workerruntime r JOIN lifecycle_workerconfig c ON c.id = r.config_id
    WHERE c.worker_id = %s
"""
STAMPED = (sys.executable, "-m", "tests.benchmarks.supervised.stamped", "zygote")
AGENT = ("manage.py", "agent", "--zygote", *STAMPED)


def set_environment(home: Path) -> None:
    """Before Django's settings are loaded."""
    for name in [name for name in os.environ if name.startswith("MUSTER_")]:
        if not name.startswith(("MUSTER_TEST_", "MUSTER_BENCH_")):
            del os.environ[name]
    os.environ |= {
        "MUSTER_HOME": str(home),
        "DJANGO_SETTINGS_MODULE": "crm.settings",
        "CELERY_SKIP_CHECKS": "1",
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
    }
    for name in ("DATABASE_URL", "BROKER_URL"):
        os.environ.pop(name, None)


class Part:
    """One process of Muster."""

    def __init__(self, name: str, command: list[str], **identity: Any) -> None:
        self.name = name
        log = Path(os.environ["MUSTER_HOME"]) / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=os.environ | {"MUSTER_PART": name},
                stdout=output,
                stderr=output,
                **identity,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def servers() -> Iterator[None]:
    """PostgreSQL, durable as in `up`, migrated; and Valkey."""
    from crm import embedded
    from crm.env import env

    database = embedded.postgres(env.home, env.socket_dir)
    broker = embedded.valkey(env.home, env.socket_dir)
    commands = [[*database.command, "-c", "track_commit_timestamp=on"], [*broker.command]]
    parts = [
        Part(s.name, command, **s.identity())
        for s, command in zip((database, broker), commands, strict=True)
    ]
    try:
        embedded.wait_postgres(env.socket_dir)
        embedded.wait_valkey(env.socket_dir)
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield
    finally:
        for part in parts:
            part.end(signal.SIGINT)


class Muster:
    """Master and agent, and the fleet as the database shows it."""

    def __init__(self, agent: Part) -> None:
        from crm.env import env

        self.agent = agent
        self.master = Part("master", [sys.executable, "manage.py", "master"])
        self.listener = psycopg.connect(env.resolved_database_url, autocommit=True)
        self.listener.execute("LISTEN muster_lifecycle")
        self.reader = psycopg.connect(env.resolved_database_url, autocommit=True)

    def look(self, worker_id: str) -> Row:
        row: Any = self.reader.execute(LOOK, [worker_id]).fetchone()
        return row  # type: ignore[no-any-return]

    def committed_ns(self, worker_id: str) -> int:
        """When the row was committed as it is, by CLOCK_MONOTONIC: as PostgreSQL says, and not
        when somebody has heard of it and looked."""
        row: Any = self.reader.execute(COMMITTED, [worker_id]).fetchone()
        return int(row[0] * 10**9) - time.time_ns() + time.monotonic_ns()

    def wait(self, worker_id: str, is_so: Callable[[Row], bool], patience_s: float = 180) -> Row:
        """Wait on notifications, as everybody does, until the committed row is so."""
        deadline = time.monotonic() + patience_s
        while not is_so(row := self.look(worker_id)):
            for _ in self.listener.notifies(timeout=1.0, stop_after=1):
                pass
            assert time.monotonic() < deadline, f"{worker_id} stays {row}"
        return row

    def running(self, worker_id: str, after: int = 0, patience_s: float = 180) -> Row:
        return self.wait(worker_id, lambda row: row[0] == "running" and row[1] > after, patience_s)

    def spawned(self, worker_id: str, after: int = 0, patience_s: float = 180) -> Row:
        return self.wait(worker_id, lambda row: row[2] is not None and row[1] > after, patience_s)

    def add(self, worker_id: str, *, start: bool = True, **fields: Any) -> None:
        """A worker with zero delay that is never given up."""
        from lifecycle import services

        services.create_config(
            {
                "worker_id": worker_id,
                "auto_start": start,
                "restart_delay_ms": 0,
                "max_restart_attempts": 1_000_000,
                **fields,
            },
            actor="benchmark",
        )

    def host_pids(self) -> list[int]:
        """Agent, zygote, keepers, workers."""
        from lifecycle.agent.client import AgentClient

        return [self.agent.pid, *_zygote_and(AgentClient(_socket()).call("status"))]

    def own_pids(self) -> list[int]:
        return [self.master.pid, self.agent.pid]

    def end(self, how: signal.Signals) -> None:
        """End the master; by SIGUSR2 it ends the fleet first."""
        self.master.end(how)
        self.listener.close()
        self.reader.close()


@contextmanager
def running(agent_command: tuple[str, ...] = AGENT, *, fleet_ends: bool = True) -> Iterator[Muster]:
    from crm.env import env

    agent = Part("agent", [sys.executable, *agent_command])
    try:
        _until(env.agent_socket.exists, "the agent listens")
        system = Muster(agent)
        try:
            yield system
        finally:
            system.end(signal.SIGUSR2 if fleet_ends else signal.SIGTERM)
            _clear()
    finally:
        agent.end()


def _clear() -> None:
    """The next part begins with an empty fleet."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE lifecycle_workerconfig CASCADE")
    connection.close()


def _socket() -> Path:
    from crm.env import env

    return env.agent_socket


def _zygote_and(status: dict[str, Any]) -> list[int]:
    rows = status["workers"]
    return [
        status["zygote_pid"],
        *(row["keeper_pid"] for row in rows),
        *(row["pid"] for row in rows),
    ]


def _until(is_so: Callable[[], bool], what: str, patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        threading.Event().wait(0.02)
