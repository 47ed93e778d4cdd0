"""`manage.py agent`: the processes of this host.

Without Django: an agent has no row to read. So it is back soon after its death, also on a loaded
host, and stays small.
"""

from __future__ import annotations

import argparse
import asyncio
import logging.config
import resource
import sys
from collections.abc import Sequence

from setproctitle import setproctitle

from crm.env import CHECKOUT, env
from crm.logs import logging_config
from lifecycle.agent import limits
from lifecycle.agent.server import Agent, take_agent_lock
from lifecycle.errors import BackendUnavailable

HELP = "Fork and watch the workers of this host, as the master tells. SIGHUP loads code anew."


def command(words: Sequence[str]) -> int:
    """Serve until SIGTERM; the exit code. `words` are the options."""
    own = [sys.executable, str(CHECKOUT / "manage.py"), "zygote"]
    parser = argparse.ArgumentParser(prog="manage.py agent", description=HELP)
    forks = "the program that forks, and its options: the last of ours"
    parser.add_argument("--zygote", nargs=argparse.REMAINDER, default=own, help=forks)
    zygote: list[str] = parser.parse_args(words).zygote
    logging.config.dictConfig(logging_config(env.log_format, env.log_level))
    try:
        _lock = take_agent_lock(env.agent_socket)
    except BackendUnavailable as error:
        print(f"agent: {error}", file=sys.stderr)  # noqa: T201
        return 1
    _take_all_descriptors()
    setproctitle("muster: agent")
    if room := limits.find_room():
        zygote += ["--room", str(room.path)]
    # Not on uvloop: it lost the end of a pidfd while other descriptors came and went, and the
    # keeper of that worker was waited for until the agent was restarted.
    asyncio.run(Agent(env.home, env.agent_socket, zygote).run())
    return 0


def _take_all_descriptors() -> None:
    """Four a worker are held, and a soft limit of 1024 is for programs that use select(2). Zygote
    and workers inherit it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
