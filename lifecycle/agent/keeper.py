"""The keeper: a tiny process beside each worker, forked from the same preloaded parent.

It is forked before it is needed, and forks its worker before that has a name. It holds the worker's lock, moves its output into log files, waits for it, ends what the worker left
behind, and writes down how it ended. It does not care whether an agent or a master lives.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import NoReturn

from setproctitle import setproctitle

from lifecycle.agent import limits, process, strays
from lifecycle.agent.layout import STREAMS, Home, SpawnDir
from lifecycle.agent.limits import Witness
from lifecycle.agent.output import LogPump
from lifecycle.agent.protocol import MESSAGE_BYTES, decode, encode
from lifecycle.types import Alive, Exit, Gone, Instance, ProcessRef, WorkerSpec

IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
REAPED_TRIES = 200
REAPED_POLL_S = 0.01
# Output is moved so often at most: a flood costs little, and nobody sees the delay.
BREATH_MS = 5

WorkerMain = Callable[[WorkerSpec], int]


@dataclass(frozen=True, slots=True)
class Brood:
    """What all keepers of one zygote have in common."""

    home: Home
    replies: socket.socket
    worker_main: WorkerMain
    code: str  # the fingerprint of the code that is imported


def stand_by(brood: Brood, orders: socket.socket) -> None:
    """Be ready: with a worker forked that waits at its gate, until told whom to be, or never."""
    _become_keeper("muster: spare")
    gate, inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        gate.close()
        orders.close()
        _be_worker(brood, inside)
    inside.close()
    packet = orders.recv(MESSAGE_BYTES)
    orders.close()
    if packet:
        request = decode(packet)
        instance = Instance(request["worker_id"], request["generation"])
        keep(brood, brood.home.spawn_dir(instance), pid, gate)


def keep(brood: Brood, spawn: SpawnDir, pid: int, gate: socket.socket) -> None:
    """Live the whole life of one worker, the child `pid`, which runs once its gate is opened.

    Answers on `brood.replies` once it exists, or why it can't.
    """
    setproctitle(f"muster: keeper of {spawn.instance.worker_id}")
    spec = spawn.spec()
    refusal = _refusal(spec)
    lock = None
    if not refusal and spawn.take_keeper_lock():
        lock = spawn.take_lock(beside_other=spec.replaces is not None)
    if lock is None:
        _reply(brood, spawn.instance, refused=refusal, busy=refusal is None)
        return
    alive = Alive(spawn.instance, process.refer(pid), datetime.now(UTC), brood.code)
    pumps = _pumps(spawn)
    if spec.replaces is None:  # of a process before us, whose keeper could not
        _end_lines(pumps)
    witness = Witness(spawn.instance, spawn.home.room)
    spawn.record_instance(process.refer(os.getpid()), alive)
    socket.send_fds(gate, [encode(asdict(spawn.instance))], [lock])
    gate.close()
    _reply(brood, spawn.instance)
    pidfd = os.pidfd_open(pid)
    _pump_until_end(pidfd, pumps)
    # A zombie keeps its number: its group is nobody else's until it is reaped.
    process.kill_group(pid)
    how = process.exit_of_status(os.waitpid(pid, 0)[1])
    _end_children()
    _conclude(spawn, alive, witness.explain(how, alive.process), pumps)
    os.close(lock)  # from here on the next one may start
    _tell_end(brood, spawn)


def keep_on(brood: Brood, instance: Instance) -> None:
    """Take the place of a keeper that was killed: same pipes, same log files, same exit record.

    The worker is nobody's child any more; the kernel tells its exit by pidfd (see `process`), and
    its strays are found by what they carry (see `strays`).
    """
    spawn = brood.home.spawn_dir(instance)
    _become_keeper(f"muster: keeper of {instance.worker_id}")
    record = spawn.processes()
    if record is None or not spawn.take_keeper_lock() or spawn.gone():
        return  # another was faster
    _killed, alive = record
    pidfd = process.open_pidfd(alive.process)
    if pidfd is None:
        return  # it ended meanwhile: the agent has had a pidfd of it for longer, and can tell how
    pumps = _pumps(spawn)
    spawn.record_instance(process.refer(os.getpid()), alive)
    _pump_until_end(pidfd, pumps)
    strays.end(spawn.path, alive.process)
    how = _told_by_kernel(alive.process, pidfd)
    if how:
        witness = Witness(instance, spawn.home.room, from_start=False)
        how = witness.explain(how, alive.process)
    _conclude(spawn, alive, how or Exit(note="its keeper was killed before it"), pumps)
    _tell_end(brood, spawn)


def _become_keeper(title: str) -> None:
    os.setsid()
    setproctitle(title)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process.become_subreaper()


def _pumps(spawn: SpawnDir) -> list[LogPump]:
    return [spawn.pump(stream) for stream in STREAMS]


def _end_lines(pumps: list[LogPump]) -> None:
    for pump in pumps:
        pump.end_line()


def _told_by_kernel(worker: ProcessRef, pidfd: int) -> Exit | None:
    """The exit of a process that is not our child, as soon as the kernel tells it."""
    for _ in range(REAPED_TRIES):
        if how := process.told_exit(worker, pidfd):
            return how
        select.select([], [], [], REAPED_POLL_S)
    return None


def _conclude(spawn: SpawnDir, alive: Alive, how: Exit, pumps: list[LogPump]) -> None:
    """The last output, then the exit, on record."""
    for pump in pumps:
        pump.drain()
    _end_lines(pumps)
    spawn.record_exit(Gone(spawn.instance, how, alive.started_at, datetime.now(UTC)))
    if spawn.home.room:
        spawn.home.room.remove(spawn.instance)


def _tell_end(brood: Brood, spawn: SpawnDir) -> None:
    """Tell the agent, which else learns it from our own end, then make the record durable.

    In this order: nothing is acknowledged before the master has the exit on its own disk, and then
    the record is not needed any more.
    """
    word = {**asdict(spawn.instance), "ended": True}
    with suppress(OSError):  # the agent died, or hangs: our end will tell
        brood.replies.send(encode(word), socket.MSG_DONTWAIT)
    spawn.make_exit_durable()


def _refusal(spec: WorkerSpec) -> str | None:
    """Why this spec can never start here, in words for the worker's page."""
    folder = spec.working_directory
    if not folder:
        return None
    if not os.path.isdir(folder):  # noqa: PTH112 - says False, not raises, for any odd string
        return f"working_directory {folder} does not exist or is not a folder"
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"working_directory {folder} can't be entered"
    return None


def _be_worker(brood: Brood, gate: socket.socket) -> NoReturn:
    """Never returns: the rest of this process is the worker.

    It does nothing until its pid is on record; when the keeper dies before that, it ends.
    """
    code = 1
    try:
        brood.replies.close()
        os.setsid()
        setproctitle("muster: unborn worker")
        for number in (*IGNORED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # Python's own default
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        packet, locks, _flags, _address = socket.recv_fds(gate, MESSAGE_BYTES, 1)
        gate.close()
        if not packet:
            os._exit(code)
        os.set_inheritable(locks[0], False)  # forked children hold it, too; programs they run don't
        spawn = brood.home.spawn_dir(Instance(**decode(packet)))
        spec = spawn.spec()
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


def _pump_until_end(pidfd: int, pumps: list[LogPump]) -> None:
    """Move output until the worker ends."""
    poller, end = select.poll(), select.poll()
    end.register(pidfd, select.POLLIN)
    by_descriptor = {pump.source: pump for pump in pumps}
    for descriptor in (pidfd, *by_descriptor):
        poller.register(descriptor, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _event in poller.poll()]
        pumped = [by_descriptor[d] for d in ready if d in by_descriptor]
        more = [pump.move() and pump.move() for pump in pumped]
        if pidfd in ready or end.poll(0 if any(more) else BREATH_MS):
            return


def _end_children() -> None:
    """Nothing is left behind [L7]: whatever left the worker's group became a child of ours."""
    while True:
        for stray in _children():
            try:
                os.kill(stray, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123
        return [int(pid) for pid in file.read().split()]


def _reply(
    brood: Brood, instance: Instance, *, refused: str | None = None, busy: bool = False
) -> None:
    word = {**asdict(instance), "ended": False, "refused": refused, "busy": busy}
    with suppress(OSError):  # the agent died while we started: the next one finds instance.json
        brood.replies.send(encode(word))
