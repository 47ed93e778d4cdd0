"""Looking at the system from outside: the kernel's processes and locks, the disk, the database.

Nothing here asks Muster itself: a worker is what has its standard output in a worker's pipe, a lock
is what /proc/locks shows.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg

from lifecycle.types import State, Wish
from tests.chaos.invariants import LogRow, Process, Row, Sight
from tests.e2e.system import System

ROWS = """
    SELECT config.worker_id, state, desired_state, generation, wanted_generation, process_id,
           restart_count, reason, successor_generation, retiring_generation
    FROM lifecycle_workerruntime runtime
    JOIN lifecycle_workerconfig config ON config.id = runtime.config_id
"""
LOG_ROWS = """
    SELECT log.id, config.worker_id, event, from_state, to_state, generation, message
    FROM lifecycle_workerlog log JOIN lifecycle_workerconfig config ON config.id = log.config_id
    WHERE log.id > %s ORDER BY log.id
"""
KEEPER = re.compile(r"muster: keeper of (\S+)")
LOCK = re.compile(r"FLOCK .* (?P<device>[0-9a-f]+:[0-9a-f]+):(?P<inode>\d+) ")


def look(system: System, connection: psycopg.Connection[tuple[Any, ...]]) -> Sight:
    """One look. Processes first: what the database says afterwards can only be newer."""
    table = _table()
    found = _processes(system, table)
    ours = {process.pid for process in found}
    zombies = tuple(
        Process(pid, parent, "Z", name, "zombie")
        for pid, (name, state, parent) in table.items()
        if state == "Z" and parent in ours
    )
    spawns = frozenset(
        (folder.parent.name, int(folder.name))
        for folder in (system.home / "run" / "workers").glob("*/*/")
        if folder.name.isdigit()
    )
    return Sight(
        rows=rows(connection),
        processes=found,
        zombies=zombies,
        locked=_locked(system.home),
        parts_away=_parts_away(system),
        spawns=spawns,
    )


def rows(connection: psycopg.Connection[tuple[Any, ...]]) -> dict[str, Row]:
    return {
        row[0]: Row(row[0], State(row[1]), Wish(row[2]), *row[3:])
        for row in connection.execute(ROWS)
    }


def log_rows(connection: psycopg.Connection[tuple[Any, ...]], after: int) -> list[LogRow]:
    return [LogRow(*row) for row in connection.execute(LOG_ROWS, [after])]


def mains(home: Path) -> list[tuple[str, int]]:
    """(worker id, generation) of every worker's main process now. Fast: one link each."""
    found = []
    for entry in Path("/proc").iterdir():
        pipe = _worker_pipe(entry, home) if entry.name.isdigit() else None
        if pipe and _session(int(entry.name)) == int(entry.name):
            found.append(pipe)
    return found


def _table() -> dict[int, tuple[str, str, int]]:
    """pid -> (name, state, parent) of every process of the machine."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            found[int(entry.name)] = (fields[0], fields[1], int(fields[2]))
    return found


def _stat(pid: int) -> list[str] | None:
    """The command, then the fields after it: state, parent, group, session, …"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    command, _, rest = text.partition(" (")[2].rpartition(") ")
    return [command, *rest.split()]


def _session(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[4]) if fields else None


def _worker_pipe(entry: Path, home: Path) -> tuple[str, int] | None:
    """(worker id, generation) of the pipe that is this process's standard output."""
    try:
        link = (entry / "fd" / "1").readlink()
    except OSError:
        return None
    workers = home / "run" / "workers"
    if not link.is_relative_to(workers) or len(link.relative_to(workers).parts) != 3:
        return None
    worker_id, generation, _stream = link.relative_to(workers).parts
    return worker_id, int(generation)


def _processes(system: System, table: dict[int, tuple[str, str, int]]) -> tuple[Process, ...]:
    up = system.process.pid if system.process else 0
    found = []
    for pid, command in system.processes().items():
        if pid not in table or table[pid][1] == "Z":
            continue
        _name, state, parent = table[pid]
        title = command.strip()
        role, worker_id, generation = role_of(system.home, pid, title)
        if role == "other" and _descends(pid, up, table):
            role = "part"
        found.append(Process(pid, parent, state, title, role, worker_id, generation))
    return tuple(found)


def role_of(home: Path, pid: int, title: str) -> tuple[str, str, int | None]:
    if pipe := _worker_pipe(Path(f"/proc/{pid}"), home):
        return ("main" if _session(pid) == pid else "pool", *pipe)
    if match := KEEPER.match(title):
        return "keeper", match[1], None
    role = title.removeprefix("muster: ") if title.startswith("muster: ") else "other"
    return role, "", None


def _descends(pid: int, ancestor: int, table: dict[int, tuple[str, str, int]]) -> bool:
    while pid in table and pid != ancestor:
        pid = table[pid][2]
    return pid == ancestor


def _locked(home: Path) -> frozenset[tuple[str, int]]:
    """Worker id and number of the locks that are held, as the kernel lists them: trying to take
    one would disturb."""
    held = {int(match["inode"]) for match in LOCK.finditer(Path("/proc/locks").read_text())}
    locks = (home / "run" / "workers").glob("*/lock.[01]")
    return frozenset(
        (lock.parent.name, int(lock.suffix[1:])) for lock in locks if lock.stat().st_ino in held
    )


def _parts_away(system: System) -> tuple[str, ...]:
    parts = json.loads((system.home / "run" / "up.json").read_text())["parts"]
    return tuple(part["name"] for part in parts if part["state"] != "running")
