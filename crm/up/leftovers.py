"""What nobody else ends: the parts that an `up` that was killed left running, found by `up.json`
and ended before the next start; and the workers that no master has stopped when `up` ends."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from crm.env import Env
from crm.up import state
from lifecycle.agent import process
from lifecycle.agent.client import AgentClient
from lifecycle.agent.layout import Home, instance_to
from lifecycle.errors import BackendUnavailable
from lifecycle.types import SHUTDOWN_STOP_S, Alive, Instance, ProcessRef

# Who uses a part ends before it. Both servers end fast on their signal and lose nothing.
ORDER = (
    ("bootstrap", "broker", "beat", "flower", "web", "master"),
    ("agent",),
    ("valkey", "postgres"),
)
SIGNALS = {"postgres": signal.SIGINT}
PATIENCE_S = 5.0
LOOK_AGAIN_S = 0.5
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


def stop_workers(env: Env, deadline: float, is_hasty: Callable[[], bool]) -> list[str]:
    """Have the agent stop the workers that still run, and wait for their ends until `deadline`, on
    the monotonic clock, or until `is_hasty`; the ids of those that were told.

    A master that leads has done it. Without one (the database is away, another home leads) nobody
    else asks them to finish what they do [L13].
    """
    agent, told = AgentClient(env.agent_socket), set[Instance]()
    while (left := _living(env.home)) and not is_hasty():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            break
        for _keeper, alive in left:
            runs = process.is_alive(alive.process) and alive.instance not in told
            if runs and _told_to_stop(agent, alive.instance, left_s):
                told.add(alive.instance)
        both = [ref for keeper, alive in left for ref in (keeper, alive.process)]
        wait_gone(both, min(left_s, LOOK_AGAIN_S))
    return sorted(instance.worker_id for instance in told)


def _told_to_stop(agent: AgentClient, instance: Instance, left_s: float) -> bool:
    """False: its agent is away; where `up` keeps it, it comes back."""
    timeout_s = min(SHUTDOWN_STOP_S, left_s)
    try:
        agent.call(
            "stop",
            patience_s=LOOK_AGAIN_S,
            instance=instance_to(instance),
            graceful=True,
            timeout_s=timeout_s,
        )
    except BackendUnavailable as error:
        log.warning("could not ask for the end of %s: %s", instance, error)
        return False
    return True


def end_workers(home: Path) -> list[str]:
    """SIGKILL whatever worker of this home still runs, and its keeper; their ids.

    For the end of a shutdown, when the time for a graceful one is over.
    """
    left = _living(home)
    for _keeper, alive in left:
        if process.is_alive(alive.process):
            process.kill_group(alive.process.pid)
    # A keeper ends by itself, once it has written down how its worker ended.
    end([ref for keeper, alive in left for ref in (alive.process, keeper)], 1.0)
    return [alive.instance.worker_id for _keeper, alive in left]


def _living(home: Path) -> list[tuple[ProcessRef, Alive]]:
    """Keeper and worker of each spawn of which one lives."""
    found = filter(None, [spawn.processes() for spawn in Home(home).spawns()])
    return [
        (keeper, alive)
        for keeper, alive in found
        if process.is_alive(keeper) or process.is_alive(alive.process)
    ]
