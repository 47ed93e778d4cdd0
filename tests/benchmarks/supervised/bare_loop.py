"""The least that a supervisor can be: `python -m tests.benchmarks.supervised.bare_loop COMMAND …`.

A pidfd in an asyncio loop, and a spawn when it says so. No record, no log, no policy.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys


def spawn(loop: asyncio.AbstractEventLoop, command: list[str], running: list[int]) -> None:
    """`running` is the child's pid alone, for whoever ends us."""
    pid = os.posix_spawn(command[0], command, os.environ)
    running[:] = [pid]
    pidfd = os.pidfd_open(pid)

    def ended() -> None:
        loop.remove_reader(pidfd)
        os.waitpid(pid, 0)
        os.close(pidfd)
        spawn(loop, command, running)

    loop.add_reader(pidfd, ended)


async def main() -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    running: list[int] = []
    spawn(loop, sys.argv[1:], running)
    await done.wait()
    os.kill(running[0], signal.SIGKILL)


asyncio.run(main())
