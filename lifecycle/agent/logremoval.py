"""The verbs `logged_workers` and `remove_logs`: log files of workers whose config is gone.

The agent knows no configs: the master says whose files may go, and when.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from lifecycle.agent.layout import STREAMS, Home
from lifecycle.errors import BackendUnavailable
from lifecycle.types import WORKER_ID

REMOVED = ".removed-"  # no worker id begins so

Verb = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def log_verbs(home: Home) -> dict[str, Verb]:
    return {
        "logged_workers": partial(_logged_workers, home),
        "remove_logs": partial(_remove_logs, home),
    }


async def _logged_workers(home: Home, _request: dict[str, Any]) -> dict[str, Any]:
    """Every worker that has log files here, with the time of the last line that it wrote."""
    folders = [folder for folder in _folder(home).glob("*") if WORKER_ID.fullmatch(folder.name)]
    return {"workers": {folder.name: _written_at(folder) for folder in folders}}


async def _remove_logs(home: Home, request: dict[str, Any]) -> dict[str, Any]:
    """Remove all files of a worker. Raises `BackendUnavailable` while a process of it is known.

    Between that look and the rename nothing else runs in this loop, and so no spawn begins; a
    spawn that comes later gets a folder of its own. Killed after the rename: the next call ends it.
    """
    worker_id = str(request["worker_id"])
    if not WORKER_ID.fullmatch(worker_id):
        raise ValueError(f"{worker_id!r} is no worker id")
    if any((home.workers / worker_id).glob("*/spec.json")):
        raise BackendUnavailable(f"a process of {worker_id} is not done with yet")
    root, folder = _folder(home), _folder(home) / worker_id
    found = folder.is_dir()
    if found:
        os.replace(folder, root / f"{REMOVED}{worker_id}-{os.urandom(4).hex()}")  # noqa: PTH105
    for leftover in root.glob(f"{REMOVED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return {"removed": found}


def _folder(home: Home) -> Path:
    return home.log_file("any", STREAMS[0]).parent.parent


def _written_at(folder: Path) -> float:
    """Seconds of the epoch."""
    times = [file.stat().st_mtime for file in folder.glob("*") if file.is_file()]
    return max(times, default=folder.stat().st_mtime)
