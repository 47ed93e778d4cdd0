"""Which processes belong to a home, found by what they hold: nobody has to have kept a list."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def processes_of(home: Path) -> dict[int, str]:
    """Every process of this home but ourselves, with its command line.

    By its environment, or by a working directory or an open file below the home: PostgreSQL,
    keepers and workers set a title, which overwrites what /proc shows of their environment.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if _is_of(home, entry):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = command.decode(errors="replace")
        except OSError:
            continue
    return found


def _is_of(home: Path, entry: Path) -> bool:
    if f"MUSTER_HOME={home}".encode() in (entry / "environ").read_bytes().split(b"\0"):
        return True
    links = [entry / "cwd", *(entry / "fd").iterdir()]
    return any(str(link.readlink()).startswith(f"{home}/") for link in links)


def kill_all(home: Path) -> None:
    """SIGKILL to every process of this home, until there is none."""
    while left := processes_of(home):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
