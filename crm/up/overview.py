"""What runs now: every part and every worker, with pid, state, uptime and memory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
from django.db import Error as DatabaseError

from crm.env import Env
from crm.up import state
from crm.up.state import PartState, UpState
from lifecycle.agent import process
from lifecycle.agent.client import AgentClient
from lifecycle.agent.layout import Home
from lifecycle.queries import runtimes
from lifecycle.types import Alive, ProcessRef

UNKNOWN = "unknown"  # the database, which knows, is away
DATABASE_S = 3
PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """One part or worker. Without a process, `pid`, `uptime_s` and `memory_mb` are None."""

    name: str
    kind: str  # part or worker
    pid: int | None
    state: str
    uptime_s: float | None = None
    memory_mb: float | None = None  # PSS: of all its processes, shared pages counted once
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    home: str
    url: str | None  # None: nothing was ever started here
    running: bool  # whether `up` runs
    database: bool  # whether it answered
    rows: tuple[Row, ...]
    reload_failure: str = ""  # why the agent could not load the newest code

    @property
    def nothing_runs(self) -> bool:
        return not self.running and all(row.pid is None for row in self.rows)


def overview(env: Env) -> Overview:
    """Look at processes first, then ask the database for what it knows about the workers."""
    known = state.read(env.home)
    workers = _worker_processes(env.home)
    states = _worker_states(env)
    parts = list(_part_rows(known, {one.process.pid for one in workers.values()})) if known else []
    rows = [*parts, *_worker_rows(workers, states)]
    running = known is not None and process.is_alive(known.process)
    url = known.url if known else None
    failure = AgentClient(env.agent_socket).reload_failure()
    return Overview(str(env.home), url, running, states is not None, tuple(rows), failure)


def _part_rows(known: UpState, workers: set[int]) -> Iterable[Row]:
    if process.is_alive(known.process):
        pid = known.pid
        yield Row("up", "part", pid, "running", _uptime_s(known.process), _memory_mb([pid]))
    alive = {part.name: ref for part, ref in known.alive()}
    for part in known.parts:
        ref = alive.get(part.name)
        if ref is None:
            gone = PartState.STOPPED if part.state is PartState.RUNNING else part.state
            yield Row(part.name, "part", None, gone.value, restarts=part.restarts)
            continue
        memory_mb = _memory_mb(_tree(ref.pid, without=workers))
        yield Row(
            *(part.name, "part", ref.pid, part.state.value),
            *(_uptime_s(ref), memory_mb, part.restarts),
        )


def _worker_rows(
    processes: dict[str, Alive], states: dict[str, tuple[str, int]] | None
) -> Iterable[Row]:
    for worker_id in sorted({*processes, *(states or {})}):
        now, restarts = (states or {}).get(worker_id, (UNKNOWN, 0))
        alive = processes.get(worker_id)
        if alive is None:
            yield Row(worker_id, "worker", None, now, restarts=restarts)
        else:
            pid = alive.process.pid
            # Not since its fork: it may have stood by for long.
            uptime_s = round((datetime.now(UTC) - alive.started_at).total_seconds(), 1)
            yield Row(worker_id, "worker", pid, now, uptime_s, _memory_mb(_tree(pid)), restarts)


def _worker_processes(home: Path) -> dict[str, Alive]:
    """The living workers, as the agent wrote them down; needs neither agent nor database."""
    found = {}
    for spawn in Home(home).spawns():
        recorded = spawn.processes()
        if recorded and process.is_alive(recorded[1].process):
            found[spawn.instance.worker_id] = recorded[1]
    return found


def _worker_states(env: Env) -> dict[str, tuple[str, int]] | None:
    """State and restart count of each worker, or None when the database is away."""
    try:  # the pool would wait longer for a database that is not there
        psycopg.connect(env.resolved_database_url, connect_timeout=DATABASE_S).close()
        rows = runtimes().values_list("config__worker_id", "state", "restart_count")
        return {worker_id: (now, restarts) for worker_id, now, restarts in rows}
    except (psycopg.Error, DatabaseError):
        return None


def _tree(pid: int, without: Iterable[int] = ()) -> list[int]:
    """A process and its descendants, down to the processes in `without`."""
    found = [pid]
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            if child.pid not in without:
                found += _tree(child.pid, without)
    return found


def _memory_mb(pids: Iterable[int]) -> float | None:
    kilobytes = [kb for kb in map(_pss_kb, pids) if kb is not None]
    return round(sum(kilobytes) / 1024, 1) if kilobytes else None


def _pss_kb(pid: int) -> int | None:
    """Proportional set size; the resident size where the kernel doesn't let us see that."""
    try:
        found = PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
        return int(found[1]) if found else None
    except PermissionError:
        with contextlib.suppress(psutil.NoSuchProcess):
            return int(psutil.Process(pid).memory_info().rss // 1024)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def _uptime_s(ref: ProcessRef) -> float:
    return round(process.age_s(ref), 1)
