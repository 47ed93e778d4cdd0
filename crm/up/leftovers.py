"""What an `up` that was killed left running: found by `up.json`, ended before the next start."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from pathlib import Path

from crm.up import state
from lifecycle.agent import process
from lifecycle.agent.layout import Home
from lifecycle.types import ProcessRef

# Who uses a part ends before it. Both servers end fast on their signal and lose nothing.
ORDER = (("beat", "flower", "web", "master"), ("agent",), ("valkey", "postgres"))
SIGNALS = {"postgres": signal.SIGINT}
PATIENCE_S = 5.0
# A master ends at SIGTERM without touching the workers, and so does an agent.

log = logging.getLogger(__name__)


def end_leftovers(home: Path) -> list[str]:
    """End the parts of a former `up`; their names. Workers are left to the next agent."""
    former = state.read(home)
    if former is None:
        return []
    alive = {part.name: ref for part, ref in former.alive()}
    for names in ORDER:
        group = {name: ref for name, ref in alive.items() if name in names}
        for name, ref in group.items():
            process.send(ref, SIGNALS.get(name, signal.SIGTERM))
        end(list(group.values()), PATIENCE_S)
    return sorted(alive)


def end(processes: list[ProcessRef], patience_s: float) -> None:
    """Wait for processes that were told to end, then SIGKILL them and their groups."""
    for ref in wait_gone(processes, patience_s):
        log.warning("pid %s did not end in time: killed", ref.pid)
        if process.is_alive(ref):
            process.kill_group(ref.pid)
        process.send(ref, signal.SIGKILL)
        wait_gone([ref], patience_s)


def wait_gone(processes: list[ProcessRef], patience_s: float) -> list[ProcessRef]:
    """Wait at most `patience_s` for processes to end, children or not; those that still run."""
    deadline = time.monotonic() + patience_s
    left = []
    for ref in processes:
        descriptor = process.open_pidfd(ref)
        if descriptor is None:
            continue
        try:
            remaining = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], remaining)[0]:
                left.append(ref)
        finally:
            os.close(descriptor)
    return left


def end_workers(home: Path) -> list[str]:
    """SIGKILL whatever worker of this home still runs, and its keeper; their ids.

    For the end of a shutdown, when the time for a graceful one is over.
    """
    found = [
        (spawn.instance.worker_id, keeper, alive.process)
        for spawn in Home(home).spawns()
        for keeper, alive in filter(None, [spawn.processes()])
    ]
    left = [entry for entry in found if process.is_alive(entry[1]) or process.is_alive(entry[2])]
    for _, _, worker in left:
        if process.is_alive(worker):
            process.kill_group(worker.pid)
    # A keeper ends by itself, once it has written down how its worker ended.
    end([ref for _, keeper, worker in left for ref in (worker, keeper)], 1.0)
    return [worker_id for worker_id, _, _ in left]
