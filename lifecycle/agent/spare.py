"""A keeper and a worker that stand by, forked ahead: a start then costs no fork.

They are told a name, and read what is to start under it; then to go. The worker waits at its gate,
a socket to its keeper, for the lock of that name.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from setproctitle import setproctitle

from lifecycle.agent import limits, process, strays
from lifecycle.agent.keeper import (
    IGNORED,
    Brood,
    Pair,
    become_keeper,
    keep,
    look_on,
    take_charge,
)
from lifecycle.agent.layout import (
    Home,
    SpawnDir,
    gone_to,
    instance_to,
    record_of,
    spec_from,
    spec_to,
)
from lifecycle.agent.protocol import GO, MESSAGE_BYTES, decode, encode
from lifecycle.types import Exit, Gone, Instance, Pool, WorkerSpec

NOBODY = WorkerSpec(Instance("rehearsal", 1), (), Pool.SOLO, 1)


def stand_by(brood: Brood, orders: socket.socket) -> None:
    """Be ready until told whom to keep; or until nobody will tell, then end with the worker."""
    become_keeper("muster: spare")
    gate, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        gate.close()
        orders.close()
        _be_worker(brood, inside)
    inside.close()
    pair = Pair(process.refer(os.getpid()), process.refer(pid))
    _rehearse(pair)
    name = orders.recv(MESSAGE_BYTES)
    if not name:
        return
    gate.send(name)
    spawn = brood.home.spawn_dir(Instance(**decode(name)))
    spec = spawn.spec()
    if orders.recv(MESSAGE_BYTES):
        orders.close()
        keep(brood, spawn, spec, pair, gate)


def _rehearse(pair: Pair) -> None:
    """Do once, for nobody, what a start and an end take.

    After a fork each page that is written to must first be copied, and in Python each object that
    is used is written to: now, while nobody waits, and not then.
    """
    with suppress(OSError), tempfile.TemporaryDirectory(prefix="muster-") as folder:
        spawn = Home(Path(folder)).spawn_dir(NOBODY.instance)
        spawn.create(NOBODY)
        charge = take_charge(spawn, spawn.spec(), pair, "")
        if charge:
            lock, alive = charge
            encode({**instance_to(spawn.instance), **record_of(pair.keeper, alive)})
            os.close(lock)
            witness, pumps = look_on(spawn, NOBODY)
            for pump in pumps:
                pump.drain()
                pump.close()
            how = witness.explain(Exit(signal=signal.SIGKILL), pair.worker)
            gone = Gone(spawn.instance, how, alive.started_at, datetime.now(UTC))
            encode({**instance_to(spawn.instance), "gone": gone_to(gone)})
            spawn.record_exit(gone)


def _be_worker(brood: Brood, gate: socket.socket) -> NoReturn:
    """Never returns: the rest of this process is the worker.

    It does nothing until its pid is on record; when the keeper dies before that, it ends.
    """
    code = 1
    try:
        brood.replies.close()
        os.setsid()
        setproctitle("muster: spare worker")
        for number in (*IGNORED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # Python's own default
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _rehearse_birth()
        name = gate.recv(MESSAGE_BYTES)
        if not name:
            os._exit(code)
        spawn = brood.home.spawn_dir(Instance(**decode(name)))
        spec = spawn.spec()
        go, locks, _flags, _address = socket.recv_fds(gate, len(GO), 1)
        gate.close()
        if not go:
            os._exit(code)
        os.set_inheritable(locks[0], False)  # forked children hold it, too; programs they run don't
        _turn_output_to(spawn)
        if trouble := limits.apply(spec, spawn.home.room):
            print(trouble, file=sys.stderr)  # noqa: T201 - for the worker's own log
        os.environ.update(spec.env)
        os.environ[strays.MARK] = str(spawn.path)
        if spec.working_directory:
            os.chdir(spec.working_directory)
        code = brood.worker_main(spec)
    except BaseException:  # noqa: BLE001 - the edge of a forked process: said, then gone
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _turn_output_to(spawn: SpawnDir) -> None:
    for descriptor, stream in ((1, "stdout"), (2, "stderr")):
        # Read-write: the worker itself keeps the pipe alive when its keeper dies.
        opened = os.open(spawn.fifo(stream), os.O_RDWR)
        os.dup2(opened, descriptor)
        os.close(opened)
    for file in (sys.stdout, sys.stderr):
        file.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]


def _rehearse_birth() -> None:
    limits.apply(spec_from(json.loads(json.dumps(spec_to(NOBODY)))), None)
    decode(encode(instance_to(NOBODY.instance)))
    for file in (sys.stdout, sys.stderr):
        file.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]
