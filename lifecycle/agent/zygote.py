"""The zygote: a single-threaded process with everything imported, forked for each new worker.

Forking it costs about a hundredth of a fresh start, and its frozen pages are shared by all workers.
It must never start a thread, open a database connection or touch the broker: a fork would copy it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from pathlib import Path

from setproctitle import setproctitle

from lifecycle.agent import process
from lifecycle.agent.keeper import WorkerMain, keep, keep_on
from lifecycle.agent.layout import Home
from lifecycle.agent.limits import Room
from lifecycle.agent.protocol import decode
from lifecycle.types import Instance

MESSAGE_BYTES = 64 * 1024


def fork_zygote(
    home: Path, worker_main: WorkerMain, agent_lock: int, room: Room | None = None
) -> tuple[int, socket.socket]:
    """Fork the zygote from this process, which must be single-threaded; returns its pid and socket.

    On the socket come requests, their answers, and a word whenever a worker has ended: keepers hold
    it for their lifetime. `agent_lock` is closed in the zygote: what it forks outlives the agent
    and must not hold it.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()  # keep the collector from touching, and so copying, what children share
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    ours.close()
    os.close(agent_lock)
    try:
        _serve(Home(home, room), theirs, worker_main)
    finally:
        os._exit(0)


def _serve(home: Home, requests: socket.socket, worker_main: WorkerMain) -> None:
    """Fork a keeper for each request until the agent is gone."""
    setproctitle("muster: zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are reaped by the kernel
    process.become_subreaper()  # and so are workers whose keeper was killed
    while packet := requests.recv(MESSAGE_BYTES):
        request = decode(packet)
        spawn = home.spawn_dir(Instance(request["worker_id"], request["generation"]))
        if os.fork() == 0:
            try:
                if request["keep_on"]:
                    keep_on(spawn, requests)
                else:
                    keep(spawn, requests, worker_main)
            finally:
                os._exit(0)
