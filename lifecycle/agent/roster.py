"""What the agent knows of its workers: who lives, who ended, and who must be told."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lifecycle.agent import output, process, strays
from lifecycle.agent.layout import STREAMS, Home, SpawnDir, alive_to, gone_to, instance_to
from lifecycle.errors import BackendUnavailable
from lifecycle.types import Alive, Exit, Gone, Instance, ProcessRef

log = logging.getLogger(__name__)

OVERDUE = "it did not stop within"
# Of a graceful stop's time: what is left for Celery's soft shutdown before SIGKILL.
SOFT_SHUTDOWN_SHARE = 0.2
RECORD_POLL_S = 0.1
ANSWER_FIRST_S = 0.001
NEXT_FIRST_S = 0.02  # what is only said waits for so long, when a start may be under way
EXIT_POLLS = 30
# An exit that the master has by then on its own disk needs not be on ours.
DURABLE_AFTER_S = 1.0
CONCLUSION_S = 5.0
CONCLUDE_AGAIN_S = 1.0

Notify = Callable[[dict[str, Any]], None]
ReplaceKeeper = Callable[[Instance], None]


@dataclass(slots=True)
class Kept:
    """A worker with its keeper, and the stop that is under way, if one is.

    `worker_fd` tells its exit when its keeper is killed; `pipes` keep what it wrote meanwhile.
    """

    alive: Alive
    keeper: ProcessRef
    worker_fd: int | None = None
    pipes: list[int] = field(default_factory=list)
    keeper_fd: int | None = None
    ladder: asyncio.Task[None] | None = None
    kill_at: float = float("inf")
    stop_at: float = float("inf")  # when its stop began
    killed: str = ""  # why that came to SIGKILL
    exit_polls: int = 0
    # What its keeper told before it wrote that down, and whether the master has it by then.
    gone: Gone | None = None
    is_acknowledged: bool = False
    concluded: asyncio.Event = field(default_factory=asyncio.Event)

    def is_exit_told(self) -> bool:
        """Whether the kernel tells by now how the worker ended, or won't: it does so once the
        worker was reaped, a moment after its death."""
        self.exit_polls += 1
        if self.worker_fd is None or self.exit_polls > EXIT_POLLS:
            return True
        return process.told_exit(self.alive.process, self.worker_fd) is not None


class Roster:
    """The living and the unacknowledged dead of this host. Used from one event loop only."""

    def __init__(self, home: Home, notify: Notify, replace_keeper: ReplaceKeeper) -> None:
        self.home = home
        self.notify = notify
        self.replace_keeper = replace_keeper
        self.kept: dict[Instance, Kept] = {}
        self.unconfessed: set[Path] = set()  # logs of which some may have lost output

    def take_over(self) -> None:
        """Find what an earlier agent left: living workers are watched again, the dead reported."""
        for spawn in list(self.home.spawns()):
            if spawn.gone() is None:
                self.adopt(spawn)
            else:
                spawn.make_exit_durable()
        self.unconfessed.update(self.home.logs())

    def adopt(self, spawn: SpawnDir) -> Kept | None:
        """Watch the keeper of a spawn, or record that it ended unseen.

        A spawn without a record either never got that far, or its keeper is at it this moment: then
        we look again.
        """
        processes = spawn.processes()
        if processes is None and spawn.has_keeper():
            asyncio.get_running_loop().call_later(RECORD_POLL_S, self.adopt, spawn)
            return None
        if processes is None:
            spawn.remove()
            return None
        return self.take_in(*processes)

    def take_in(self, keeper: ProcessRef, alive: Alive) -> Kept:
        """Know a worker and its keeper from now on, and watch them in a moment: whoever waits for
        the start is answered first."""
        known = self.kept.get(alive.instance)
        if known:
            return known
        kept = self.kept[alive.instance] = Kept(alive, keeper)
        asyncio.get_running_loop().call_later(ANSWER_FIRST_S, self._look_on, kept)
        return kept

    def _look_on(self, kept: Kept) -> None:
        alive = kept.alive
        if self.kept.get(alive.instance) is not kept:
            return  # it has ended meanwhile
        kept.worker_fd = process.open_pidfd(alive.process)
        spawn = self.home.spawn_dir(alive.instance)
        kept.pipes = spawn.hold_pipes()
        if kept.gone is None:  # else its end is told already
            self.notify({"event": "started", **alive_to(alive)})
        if kept.worker_fd is not None:
            asyncio.get_running_loop().add_reader(kept.worker_fd, self._ending, kept)
        self._watch(kept)

    def _ending(self, kept: Kept) -> None:
        """Seen at once, by its pidfd: how it ended is for its keeper to say, in a moment."""
        self._unwatch_worker(kept)
        if kept.gone is None:
            self.notify({"event": "ending", **instance_to(kept.alive.instance)})

    @staticmethod
    def _unwatch_worker(kept: Kept) -> None:
        if kept.worker_fd is not None:
            asyncio.get_running_loop().remove_reader(kept.worker_fd)

    def _watch(self, kept: Kept) -> None:
        """The keeper's end is the worker's: it is the last to go and leaves the exit on disk."""
        loop = asyncio.get_running_loop()
        kept.keeper_fd = process.open_pidfd(kept.keeper)
        if kept.keeper_fd is None:
            loop.call_soon(self._ended, kept)
        else:
            loop.add_reader(kept.keeper_fd, self._ended, kept)

    def told(self, gone: Gone) -> None:
        """Its keeper says so, while it moves the last output and writes the exit down."""
        kept = self.kept.get(gone.instance)
        if kept and kept.gone is None:
            kept.gone = _explained(gone, kept)
            self._tell(kept.gone)

    def is_alone(self, instance: Instance) -> bool:
        """Whether it ended unasked, and no other process of its worker is known."""
        kept = self.kept.get(instance)
        same = [other for other in self.kept if other.worker_id == instance.worker_id]
        return kept is not None and kept.ladder is None and len(same) == 1

    def done(self, instance: Instance) -> None:
        """Its keeper says so: as good as its end, and some milliseconds before it."""
        kept = self.kept.get(instance)
        if kept and kept.gone and not kept.killed:  # and on record is what it told
            self._unwatch(kept)
            self._let_go(kept, self.home.spawn_dir(instance), kept.gone)
        elif kept:
            self._ended(kept)

    def _tell(self, gone: Gone) -> None:
        self.notify({"event": "gone", **gone_to(gone)})
        loop = asyncio.get_running_loop()
        loop.call_later(NEXT_FIRST_S, log.info, "worker ended: %s: %s", gone.instance, gone.exit)

    async def concluded(self, worker_id: str) -> None:
        """Wait until the keepers of those that have ended are done: until then they hold locks.

        Raises `BackendUnavailable`.
        """
        for kept in list(self.kept.values()):
            if kept.gone and kept.alive.instance.worker_id == worker_id:
                try:
                    await asyncio.wait_for(kept.concluded.wait(), CONCLUSION_S)
                except TimeoutError:
                    raise BackendUnavailable(
                        f"the keeper of {kept.alive.instance} is not done with it"
                    ) from None

    def _ended(self, kept: Kept) -> None:
        if self.kept.get(kept.alive.instance) is not kept:
            return  # known by now
        self._unwatch(kept)
        spawn = self.home.spawn_dir(kept.alive.instance)
        if spawn.gone() is None and process.is_alive(kept.alive.process):
            self._keep_on(kept, spawn)
            return
        if spawn.gone() is None and not kept.is_exit_told():
            asyncio.get_running_loop().call_later(RECORD_POLL_S, self._ended, kept)
            return
        try:
            gone = _explained(spawn.gone() or self._conclude_for_keeper(spawn, kept), kept)
            if kept.killed and not kept.is_acknowledged:
                spawn.record_exit(gone)  # its keeper could not know why
        except OSError:  # the disk is full: what its keeper could not do, we can't either
            log.exception("the end of %s can't be written down yet", kept.alive.instance)
            asyncio.get_running_loop().call_later(CONCLUDE_AGAIN_S, self._ended, kept)
            return
        self._let_go(kept, spawn, gone)

    def _unwatch(self, kept: Kept) -> None:
        if kept.keeper_fd is not None:
            asyncio.get_running_loop().remove_reader(kept.keeper_fd)
            os.close(kept.keeper_fd)
            kept.keeper_fd = None

    def _let_go(self, kept: Kept, spawn: SpawnDir, gone: Gone) -> None:
        """Keeper and worker have ended, and how is on record."""
        self.kept.pop(kept.alive.instance, None)
        kept.concluded.set()
        if kept.is_acknowledged:
            spawn.remove()
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(DURABLE_AFTER_S, spawn.make_exit_durable)
        if kept.ladder:
            kept.ladder.cancel()
        self._unwatch_worker(kept)
        for descriptor in (kept.worker_fd, *kept.pipes):
            if descriptor is not None:
                os.close(descriptor)
        self.unconfessed.update(self._logs_of(kept.alive.instance))
        if kept.gone is None:
            self._tell(gone)

    def _keep_on(self, kept: Kept, spawn: SpawnDir) -> None:
        """The keeper was killed, the worker lives: give it a new one, and watch that."""
        log.warning("the keeper of %s was killed; giving it another", kept.alive.instance)
        self.replace_keeper(kept.alive.instance)
        asyncio.get_running_loop().call_later(RECORD_POLL_S, self._watch_new_keeper, kept, spawn)

    def _watch_new_keeper(self, kept: Kept, spawn: SpawnDir) -> None:
        processes = spawn.processes()
        if processes and processes[0] != kept.keeper:
            kept.keeper = processes[0]
        self._watch(kept)  # if it is still the dead one, we are back at once and ask again

    def _conclude_for_keeper(self, spawn: SpawnDir, kept: Kept) -> Gone:
        """Keeper and worker were killed together: do the keeper's last duties."""
        if kept.alive.process.boot_id == process.boot_id():  # else nothing is left of it
            strays.end(spawn.path, kept.alive.process)
            spec = spawn.spec()
            for stream in STREAMS:
                pump = spawn.pump(stream, spec)
                pump.drain()
                pump.end_line()
                pump.close()
        how = process.told_exit(kept.alive.process, kept.worker_fd)
        gone = kept.gone or Gone(
            spawn.instance,
            how or Exit(note="its keeper was killed with it"),
            kept.alive.started_at,
            datetime.now(UTC),
        )
        spawn.record_exit(gone)
        return gone

    def _logs_of(self, instance: Instance) -> list[Path]:
        return [self.home.log_file(instance.worker_id, stream) for stream in STREAMS]

    def confess_losses(self) -> None:
        """Say in the logs of workers that have ended what a full disk took from them, if nobody
        who came after them has: where there is no room yet, the next time."""
        running = {log for one in self.kept for log in self._logs_of(one)}
        self.unconfessed = {log for log in self.unconfessed if output.lost_of(log)}
        for path in self.unconfessed - running:  # else their keepers do
            end = output.LogEnd(path)
            end.end_line()
            end.close()

    def unacknowledged(self) -> list[Gone]:
        """Ends that were told or are on disk, and that nobody acknowledged."""
        ended = (spawn.gone() for spawn in self.home.spawns() if spawn.instance not in self.kept)
        told = (kept.gone for kept in self.kept.values() if not kept.is_acknowledged)
        return [gone for gone in (*told, *ended) if gone]

    def acknowledge(self, instance: Instance) -> None:
        """The master has committed this exit: forget it."""
        spawn, kept = self.home.spawn_dir(instance), self.kept.get(instance)
        if kept and kept.gone:
            kept.is_acknowledged = True
        elif kept is None and spawn.gone() is not None:
            spawn.remove()

    def snapshot(self) -> dict[str, Any]:
        return {
            "event": "snapshot",
            "alive": [alive_to(kept.alive) for kept in self.kept.values() if kept.gone is None],
            "gone": [gone_to(gone) for gone in self.unacknowledged()],
        }

    def stop(self, instance: Instance, *, graceful: bool, timeout_s: float) -> bool:
        """Begin to stop, or hasten a stop that is under way. False when it does not run."""
        kept = self.kept.get(instance)
        if kept is None or kept.gone:
            return False
        now = asyncio.get_running_loop().time()
        kill_at = now + (timeout_s if graceful else 0.0)
        kept.stop_at = min(kept.stop_at, now)
        if kept.ladder and kill_at >= kept.kill_at:
            return True
        if kept.ladder:
            kept.ladder.cancel()
        kept.kill_at = kill_at
        kept.ladder = asyncio.create_task(_stop_ladder(kept, graceful, timeout_s))
        return True


async def _stop_ladder(kept: Kept, graceful: bool, timeout_s: float) -> None:
    """SIGTERM to the main process only (a TERM to the group breaks Celery's warm shutdown), then
    SIGQUIT for its soft shutdown, then SIGKILL; the keeper ends the rest of the group [L7]."""
    worker = kept.alive.process
    if graceful:
        process.send(worker, signal.SIGTERM)
        await asyncio.sleep(timeout_s * (1 - SOFT_SHUTDOWN_SHARE))
        process.send(worker, signal.SIGQUIT)
        await asyncio.sleep(timeout_s * SOFT_SHUTDOWN_SHARE)
    passed_s = asyncio.get_running_loop().time() - kept.stop_at
    kept.killed = f"{OVERDUE} {passed_s:.1f} s" if graceful else "as it was asked to"
    process.send(worker, signal.SIGKILL)


def _explained(gone: Gone, kept: Kept) -> Gone:
    """An exit by our own SIGKILL says so: it is no crash, and no lack of memory."""
    if gone.exit.signal != signal.SIGKILL or gone.exit.note or not kept.killed:
        return gone
    return replace(gone, exit=replace(gone.exit, note=kept.killed))
