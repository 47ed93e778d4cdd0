"""The zygote: a single-threaded process with everything imported, forked for each new worker.

Forking it costs about a hundredth of a fresh start, and its frozen pages are shared by all workers.
It must never start a thread, open a database connection or touch the broker: a fork would copy it.

One keeper with an unborn worker stands by, forked ahead while the agent has nothing else to do: a
start then costs no fork, and goes from the agent to the spare without us.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from contextlib import suppress

from setproctitle import setproctitle

from lifecycle.agent import keeper, process, spare
from lifecycle.agent.keeper import Brood
from lifecycle.agent.protocol import MESSAGE_BYTES, decode, encode
from lifecycle.types import Instance


def serve(brood: Brood) -> None:
    """Fork what is asked for, until the agent is gone or retires us.

    `brood.replies` is our end of a SOCK_SEQPACKET pair, shared with all keepers: on it come
    requests, and go our `hello`, keepers' answers, and their word when a worker has ended.
    """
    setproctitle("muster: zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are reaped by the kernel
    process.become_subreaper()  # and so are workers whose keeper was killed
    gc.collect()
    gc.freeze()  # keep the collector from touching, and so copying, what children share
    requests = brood.replies
    requests.send(encode({"hello": brood.code}))
    while packet := requests.recv(MESSAGE_BYTES):
        request = decode(packet)
        if "retire" in request:
            return
        if "spare" in request:
            _fork_spare(brood)
        else:
            _fork_successor(brood, Instance(**request["keep_on"]))


def _fork_spare(brood: Brood) -> None:
    """A keeper that stands by, and to the agent the descriptor on which it takes its orders: it
    ends when the agent closes that."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        try:
            ours.close()
            spare.stand_by(brood, theirs)
        finally:
            os._exit(0)
    with ours, theirs, suppress(OSError):  # the agent is gone: so are we, the next moment
        socket.send_fds(brood.replies, [encode({"spare": True})], [ours.fileno()])


def _fork_successor(brood: Brood, instance: Instance) -> None:
    if os.fork() == 0:
        try:
            keeper.keep_on(brood, instance)
        finally:
            os._exit(0)
