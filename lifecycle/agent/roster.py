"""What the agent knows of its workers: who lives, who ended, and who must be told."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lifecycle.agent import process
from lifecycle.agent.layout import Home, SpawnDir, alive_to, gone_to
from lifecycle.types import Alive, Exit, Gone, Instance, ProcessRef

log = logging.getLogger(__name__)

# Of a graceful stop's time: what is left for Celery's soft shutdown before SIGKILL.
SOFT_SHUTDOWN_SHARE = 0.2
RECORD_POLL_S = 0.1

Notify = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Kept:
    """A worker with its keeper, and the stop that is under way, if one is."""

    alive: Alive
    keeper: ProcessRef
    ladder: asyncio.Task[None] | None = None
    kill_at: float = float("inf")


class Roster:
    """The living and the unacknowledged dead of this host. Used from one event loop only."""

    def __init__(self, home: Home, notify: Notify) -> None:
        self.home = home
        self.notify = notify
        self.kept: dict[str, Kept] = {}

    def take_over(self) -> None:
        """Find what an earlier agent left: living workers are watched again, the dead reported."""
        for spawn in list(self.home.spawns()):
            if spawn.gone() is None:
                self.adopt(spawn)

    def adopt(self, spawn: SpawnDir) -> Kept | None:
        """Watch the keeper of a spawn, or record that it ended unseen.

        A spawn without a record either never got that far, or its keeper is at it this moment: then
        the lock is held, and we look again.
        """
        processes = spawn.processes()
        if processes is None and spawn.is_locked():
            asyncio.get_running_loop().call_later(RECORD_POLL_S, self.adopt, spawn)
            return None
        if processes is None:
            spawn.remove()
            return None
        keeper, alive = processes
        kept = Kept(alive, keeper)
        self.kept[spawn.instance.worker_id] = kept
        self._watch(kept)
        return kept

    def _watch(self, kept: Kept) -> None:
        """The keeper's end is the worker's: it is the last to go and leaves the exit on disk."""
        loop = asyncio.get_running_loop()
        pidfd = process.open_pidfd(kept.keeper)
        if pidfd is None:
            loop.call_soon(self._ended, kept)
            return

        def ended() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            self._ended(kept)

        loop.add_reader(pidfd, ended)

    def _ended(self, kept: Kept) -> None:
        spawn = self.home.spawn_dir(kept.alive.instance)
        gone = spawn.gone()
        if gone is None:
            gone = self._end_unseen(spawn, kept)
        if kept.ladder:
            kept.ladder.cancel()
        self.kept.pop(kept.alive.instance.worker_id, None)
        log.info("worker ended: %s: %s", kept.alive.instance, gone.exit)
        self.notify({"event": "gone", **gone_to(gone)})

    def _end_unseen(self, spawn: SpawnDir, kept: Kept) -> Gone:
        """The keeper was killed: end what is left of its worker, which nobody looks after now."""
        worker = kept.alive.process
        if process.is_alive(worker):
            process.kill_group(worker.pid)
        gone = Gone(
            spawn.instance,
            Exit(note="its keeper was killed"),
            kept.alive.started_at,
            datetime.now(UTC),
        )
        spawn.record_exit(gone)
        return gone

    def unacknowledged(self) -> list[Gone]:
        return [gone for spawn in self.home.spawns() if (gone := spawn.gone())]

    def acknowledge(self, instance: Instance) -> None:
        """The master has committed this exit: forget it."""
        spawn = self.home.spawn_dir(instance)
        if spawn.gone() is not None:
            spawn.remove()

    def snapshot(self) -> dict[str, Any]:
        return {
            "event": "snapshot",
            "alive": [alive_to(kept.alive) for kept in self.kept.values()],
            "gone": [gone_to(gone) for gone in self.unacknowledged()],
        }

    def stop(self, instance: Instance, *, graceful: bool, timeout_s: float) -> bool:
        """Begin to stop, or hasten a stop that is under way. False when it does not run."""
        kept = self.kept.get(instance.worker_id)
        if kept is None or kept.alive.instance != instance:
            return False
        kill_at = asyncio.get_running_loop().time() + (timeout_s if graceful else 0.0)
        if kept.ladder and kill_at >= kept.kill_at:
            return True
        if kept.ladder:
            kept.ladder.cancel()
        kept.kill_at = kill_at
        kept.ladder = asyncio.create_task(_stop_ladder(kept.alive.process, graceful, timeout_s))
        return True


async def _stop_ladder(worker: ProcessRef, graceful: bool, timeout_s: float) -> None:
    """SIGTERM to the main process only (a TERM to the group breaks Celery's warm shutdown), then
    SIGQUIT for its soft shutdown, then SIGKILL; the keeper ends the rest of the group [L7]."""
    if graceful:
        process.send(worker, signal.SIGTERM)
        await asyncio.sleep(timeout_s * (1 - SOFT_SHUTDOWN_SHARE))
        process.send(worker, signal.SIGQUIT)
        await asyncio.sleep(timeout_s * SOFT_SHUTDOWN_SHARE)
    process.send(worker, signal.SIGKILL)
