"""The zygote: a single-threaded process with everything imported, forked for each new worker.

Forking it costs about a hundredth of a fresh start, and its frozen pages are shared by all workers.
It must never start a thread, open a database connection or touch the broker: a fork would copy it.

One keeper with an unborn worker stands by, forked ahead while nothing was asked: a start then costs
no fork.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from contextlib import suppress

from setproctitle import setproctitle

from lifecycle.agent import keeper, process, spare
from lifecycle.agent.keeper import Brood
from lifecycle.agent.protocol import MESSAGE_BYTES, decode, encode
from lifecycle.types import Instance

# The next spare is forked when nobody has asked for so long: not beside a start.
SPARE_AFTER_MS = 100


def serve(brood: Brood) -> None:
    """Fork a keeper for each request, until the agent is gone or retires us.

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
    asked = select.poll()
    asked.register(requests, select.POLLIN)
    waiting: socket.socket | None = None
    while True:
        if waiting is None and not asked.poll(SPARE_AFTER_MS):
            waiting = _fork_spare(brood)
        packet = requests.recv(MESSAGE_BYTES)
        if not packet:
            return
        request = decode(packet)
        if "retire" in request:
            return
        if request["keep_on"]:
            _fork_successor(brood, Instance(request["worker_id"], request["generation"]))
        else:
            _hand_over(brood, waiting, packet)
            waiting = None


def _hand_over(brood: Brood, waiting: socket.socket | None, packet: bytes) -> None:
    """To the spare, or to a fresh one where there is none, or it was killed."""
    for orders in (waiting, None):
        with suppress(OSError), orders or _fork_spare(brood) as taken:
            taken.send(packet)
            return


def _fork_spare(brood: Brood) -> socket.socket:
    """A keeper that stands by; it ends when our end of its orders is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        try:
            ours.close()
            spare.stand_by(brood, theirs)
        finally:
            os._exit(0)
    theirs.close()
    return ours


def _fork_successor(brood: Brood, instance: Instance) -> None:
    if os.fork() == 0:
        try:
            keeper.keep_on(brood, instance)
        finally:
            os._exit(0)
