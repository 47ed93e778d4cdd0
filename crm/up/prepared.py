"""The database made fit for use, by `manage.py bootstrap` in a process of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from crm.up.supervisor import Supervisor

NAME = "bootstrap"
ADMIN = "admin"
FIRST_WORKER = "worker-1"


class PrepareFailed(Exception):
    """`manage.py bootstrap` failed; the message is its own."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `manage.py bootstrap` did, as it says it: one line of JSON."""

    admin_password: str | None  # generated just now: to be shown once
    admin_created: bool
    migrated: bool  # whether there was something to do
    first_worker: bool
    elsewhere: str | None = None  # another home that may still run workers of this database


async def prepare(supervisor: Supervisor) -> Prepared:
    """Run it: it loads Django while the database comes up, and waits for that.

    Raises `PrepareFailed`.
    """
    log_file = supervisor.log_file(NAME)
    begin = log_file.stat().st_size if log_file.exists() else 0  # before that: former runs
    secret = supervisor.env.admin_password or ""
    command = ("manage.py", NAME)
    async with supervisor.oneshot(NAME, *command, MUSTER_ADMIN_PASSWORD=secret) as child:
        said = await child.stdout.read()  # type: ignore[union-attr]
        await child.wait()
    if child.returncode != 0:
        raise PrepareFailed(f"{_last_line(log_file, begin)} (see {log_file})")
    return Prepared(**json.loads(said.decode().splitlines()[-1]))


def _last_line(path: Path, begin: int) -> str:
    """What it said at last, after the first `begin` bytes: `manage.py bootstrap` says it all so."""
    lines = path.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("CommandError: ") if lines else "the database can't be prepared"
