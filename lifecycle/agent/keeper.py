"""The keeper: a tiny process beside each worker, forked from the same preloaded parent.

It holds the worker's lock, moves its output into log files, waits for it, ends what the worker left
behind, and writes down how it ended. It does not care whether an agent or a master lives. How it
comes to be, see `spare`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from setproctitle import setproctitle

from lifecycle.agent import process, strays
from lifecycle.agent.layout import STREAMS, Home, SpawnDir, gone_to, instance_to, record_of
from lifecycle.agent.limits import Witness
from lifecycle.agent.output import LogPump
from lifecycle.agent.protocol import GO, Word, encode
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


class Pair(NamedTuple):
    keeper: ProcessRef
    worker: ProcessRef


def keep(brood: Brood, spawn: SpawnDir, spec: WorkerSpec, pair: Pair, gate: socket.socket) -> None:
    """Live the whole life of one worker, a child that runs once its gate is opened.

    Says on `brood.replies` what the agent must know, see `Word`.
    """
    if refusal := _refusal(spec):
        say(brood, spawn.instance, Word.REFUSED, why=refusal)
        return
    charge = take_charge(spawn, spec, pair, brood.code)
    if charge is None:
        say(brood, spawn.instance, Word.BUSY)
        return
    lock, alive = charge
    pipes = spawn.hold_pipes()  # it may print and end before we look on
    socket.send_fds(gate, [GO], [lock])
    gate.close()
    say(brood, spawn.instance, Word.STARTED, **record_of(pair.keeper, alive))
    # What it prints meanwhile waits in the pipes.
    setproctitle(f"muster: keeper of {spawn.instance.worker_id}")
    witness, pumps = look_on(spawn, spec)
    for pipe in pipes:
        os.close(pipe)
    pid = pair.worker.pid
    _pump_until_end(os.pidfd_open(pid), pumps)
    how = witness.explain(process.exit_of_child(pid), alive.process)
    leaves_others = _children() != [pid]
    if leaves_others:  # who may take their time to die
        _end_all(pid)
    gone, is_told = _tell(brood, alive, how)
    if not leaves_others:
        _end_all(pid)
    _conclude(spawn, gone, pumps, is_told=is_told)
    os.close(lock)
    say(brood, spawn.instance, Word.DONE)


def take_charge(
    spawn: SpawnDir, spec: WorkerSpec, pair: Pair, code: str
) -> tuple[int, Alive] | None:
    """All that must be before the worker's first instruction: its lock, and its pid on record.

    None: somebody else holds a lock, or it was started before: a request that was repeated may be
    read when what the first one started has ended already. Raises `OSError`.
    """
    lock = None
    if spawn.take_keeper_lock() and spawn.processes() is None:
        lock = spawn.take_lock(beside_other=spec.replaces is not None)
    if lock is None:
        return None
    alive = Alive(spawn.instance, pair.worker, datetime.now(UTC), code)
    spawn.record_instance(pair.keeper, alive)
    return lock, alive


def look_on(spawn: SpawnDir, spec: WorkerSpec) -> tuple[Witness, list[LogPump]]:
    """Raises `OSError`."""
    witness = Witness(spawn.instance, spawn.home.room)
    pumps = [spawn.pump(stream, spec) for stream in STREAMS]
    if spec.replaces is None:  # of a process before us, whose keeper could not
        _end_lines(pumps)
    return witness, pumps


def keep_on(brood: Brood, instance: Instance) -> None:
    """Take the place of a keeper that was killed: same pipes, same log files, same exit record.

    The worker is nobody's child any more; the kernel tells its exit by pidfd (see `process`), and
    its strays are found by what they carry (see `strays`).
    """
    spawn = brood.home.spawn_dir(instance)
    become_keeper(f"muster: keeper of {instance.worker_id}")
    record = spawn.processes()
    if record is None or not spawn.take_keeper_lock() or spawn.gone():
        return  # another was faster
    _killed, alive = record
    pidfd = process.open_pidfd(alive.process)
    if pidfd is None:
        return  # it ended meanwhile: the agent has had a pidfd of it for longer, and can tell how
    spec = spawn.spec()
    pumps = [spawn.pump(stream, spec) for stream in STREAMS]
    spawn.record_instance(process.refer(os.getpid()), alive)
    _pump_until_end(pidfd, pumps)
    strays.end(spawn.path, alive.process)
    how = _told_by_kernel(alive.process, pidfd)
    if how:
        witness = Witness(instance, spawn.home.room, from_start=False)
        how = witness.explain(how, alive.process)
    how = how or Exit(note="its keeper was killed before it")
    gone, is_told = _tell(brood, alive, how)
    _conclude(spawn, gone, pumps, is_told=is_told)
    say(brood, instance, Word.DONE)


def say(brood: Brood, instance: Instance, word: Word, **more: Any) -> bool:
    """False: the agent died, or hangs. What is on disk, and our end, will tell the next one."""
    packet = encode({**instance_to(instance), "word": word, **more})
    try:
        brood.replies.send(packet, socket.MSG_DONTWAIT)
    except OSError:
        return False
    return True


def become_keeper(title: str) -> None:
    os.setsid()
    setproctitle(title)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process.become_subreaper()


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


def _tell(brood: Brood, alive: Alive, how: Exit) -> tuple[Gone, bool]:
    """Tell the agent first, so that the next one is decided while we do the rest; the end, and
    whether there is an agent."""
    gone = Gone(alive.instance, how, alive.started_at, datetime.now(UTC))
    is_told = say(brood, alive.instance, Word.ENDED, gone=gone_to(gone))
    os.sched_yield()  # the agent was woken on this CPU, and would wait for the rest of this
    return gone, is_told


def _conclude(spawn: SpawnDir, gone: Gone, pumps: list[LogPump], *, is_told: bool) -> None:
    """The last output and, on record, the exit.

    The record becomes durable where it is needed: not if the master has the exit on its own disk a
    moment later. That is the agent's to see; where there is none, ours.
    """
    for pump in pumps:
        pump.drain()
    _end_lines(pumps)
    spawn.record_exit(gone)
    if not is_told:
        spawn.make_exit_durable()
    if spawn.home.room:
        spawn.home.room.remove(spawn.instance)


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


def _end_all(pid: int) -> None:
    """Nothing is left behind [L7]: whatever left the worker's group became a child of ours."""
    # A zombie keeps its number: its group is nobody else's until it is reaped.
    process.kill_group(pid)
    os.waitpid(pid, 0)
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
