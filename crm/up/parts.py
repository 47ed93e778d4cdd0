"""The parts of Muster on one machine, and how each is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crm import embedded
from crm.env import CHECKOUT, Env

# Server-sent events keep connections open: the web does not wait for those.
WEB_GRACE_S = 2
FLOWER_TASKS = 10_000


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a part, ready for `subprocess.Popen`."""

    command: tuple[str, ...]
    identity: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """`prepare` runs before every start, in a thread; it clears what a killed run left behind."""

    name: str
    prepare: Callable[[], Launch]


def python_part(name: str, *command: str, **environment: str) -> Part:
    launch = Launch((sys.executable, *command), environment=environment)
    return Part(name, lambda: launch)


def server_part(name: str, make: Callable[[Path, Path], embedded.Server], env: Env) -> Part:
    def prepare() -> Launch:
        server = make(env.home, env.socket_dir)
        return Launch(server.command, server.identity())

    return Part(name, prepare)


def postgres(env: Env) -> Part:
    return server_part("postgres", embedded.postgres, env)


def valkey(env: Env) -> Part:
    return server_part("valkey", embedded.valkey, env)


def agent() -> Part:
    return python_part("agent", "manage.py", "agent")


def master() -> Part:
    return python_part("master", "manage.py", "master")


def web(env: Env) -> Part:
    return python_part(
        "web",
        *("-m", "uvicorn", "crm.asgi:application", "--host", env.bind, "--port", str(env.port)),
        *("--loop", "uvloop", "--lifespan", "off", "--no-access-log", "--no-server-header"),
        *("--timeout-graceful-shutdown", str(WEB_GRACE_S)),
    )


def beat() -> Part:
    return python_part("beat", "-m", "celery", "-A", "crm", "beat")


def flower(env: Env) -> Part:
    # Its API is open to who reaches the socket: our own page at /flower/, which asks for the right.
    return python_part(
        "flower",
        *("-m", "celery", "-A", "crm", "flower", f"--unix-socket={env.flower_socket}"),
        *("--url_prefix=flower", f"--max-tasks={FLOWER_TASKS}"),
        FLOWER_UNAUTHENTICATED_API="true",
    )


def environment(env: Env, part: str, extra: dict[str, str]) -> dict[str, str]:
    """The environment of a part. MUSTER_HOME is always in it: by it, processes can be found."""
    given = {key: value for key, value in os.environ.items() if key != "MUSTER_ADMIN_PASSWORD"}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), given.get("PYTHONPATH")]))
    ours = {"MUSTER_HOME": str(env.home), "MUSTER_PART": part, "PYTHONPATH": path}
    return given | ours | {"PYTHONUNBUFFERED": "1"} | extra
