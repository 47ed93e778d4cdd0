"""A database as `manage.py bootstrap` leaves it, made once for each run of the tests and copied
from there. To make it takes `up` more CPU than all else that it does until it is ready."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from pathlib import Path

from tests.e2e.servers import Servers
from tests.e2e.system import System


def prepare(home: Path) -> None:
    """Give a home, or a folder of `Servers`, that is not there yet its database: it has the first
    admin and the first worker, and was never served. What comes to be in it is all of its own."""
    home.mkdir(mode=0o700, parents=True)
    subprocess.run(["cp", "-a", str(_made() / "postgres"), str(home)], check=True)  # noqa: S607


def _made() -> Path:
    """Where it is; the first of pytest's processes that asks makes it."""
    root = Path(os.environ["MUSTER_TEST_HOME"])
    folder, draft = root / "prepared", root / "prepared.new"
    with (root / "prepared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(draft)
            draft.rename(folder)
    return folder


def _make(folder: Path) -> None:
    servers, system = Servers(folder), System(folder)
    system.variables = {"DATABASE_URL": servers.urls["DATABASE_URL"]}
    try:
        servers.start("postgres")
        done = system.manage("bootstrap")
        assert done.returncode == 0, done.stderr
        servers.processes["postgres"].send_signal(signal.SIGINT)  # in order, so no copy recovers
        servers.processes["postgres"].wait(30)
    finally:
        servers.end()
