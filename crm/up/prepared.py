"""The database made fit for use, by `manage.py bootstrap` in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from crm.env import CHECKOUT, Env
from crm.up import output
from crm.up.parts import environment

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


async def prepare(env: Env) -> Prepared:
    """Run it: it loads Django while the database comes up, and waits for that.

    Raises `PrepareFailed`.
    """
    log_file = env.home / "logs" / "bootstrap.log"
    secret = {"MUSTER_ADMIN_PASSWORD": env.admin_password or ""}
    descriptor = output.open_log(log_file)
    begin = os.fstat(descriptor).st_size  # before that: former runs
    try:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "manage.py", "bootstrap"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=descriptor,
            cwd=CHECKOUT,
            env=environment(env, "bootstrap", secret),
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    try:
        said, _ = await child.communicate()
    except asyncio.CancelledError:
        child.kill()
        await child.wait()
        raise
    if child.returncode != 0:
        raise PrepareFailed(f"{_last_line(log_file, begin)} (see {log_file})")
    return Prepared(**json.loads(said.decode().splitlines()[-1]))


def _last_line(path: Path, begin: int) -> str:
    """What it said at last, after the first `begin` bytes: `manage.py bootstrap` says it all so."""
    lines = path.read_bytes()[begin:].decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("CommandError: ") if lines else "the database can't be prepared"
