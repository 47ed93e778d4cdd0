"""Two real masters: one leads, and it is never two who decide [L11]."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from lifecycle.management.commands.master import LEAD_LOST
from tests.chaos import sight
from tests.chaos.invariants import twice
from tests.e2e.prepared import prepare
from tests.e2e.servers import Servers
from tests.e2e.system import CHECKOUT, System
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TAKEOVER_S = 5.0  # [L11]
WORKER = "worker-1"
# Who holds the lead, and who asks for it.
LEADERS = """
    SELECT activity.pid, bool_or(locks.granted IS TRUE), max(activity.query_start)
    FROM pg_stat_activity activity
    LEFT JOIN pg_locks locks ON locks.pid = activity.pid AND locks.locktype = 'advisory'
    WHERE activity.application_name = 'muster-leader' GROUP BY activity.pid
"""
GENERATION = """
    SELECT runtime.generation FROM lifecycle_workerruntime runtime
    JOIN lifecycle_workerconfig config ON config.id = runtime.config_id
    WHERE config.worker_id = %s
"""


class MasterProcess:
    """`manage.py master`, started by hand in the home of a system."""

    def __init__(self, system: System, name: str) -> None:
        self.log = system.home.parent / f"{name}.txt"
        environment = {**system.environment, "MUSTER_PART": "master", "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "master"],
                cwd=CHECKOUT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def stands_by(self) -> bool:
        return "standing by" in self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def alone(system: System) -> Iterator[System]:
    """The system with a worker that runs and restarts at once, while `up` starts no master."""
    eventually(lambda: runs(leader(system)))
    system.running_worker(WORKER)
    with system.database() as connection:
        connection.execute(
            "UPDATE lifecycle_workerconfig SET restart_delay_ms = 0, max_restart_attempts = 1000"
        )
    assert system.process
    with held(system.process.pid):
        yield system


@contextmanager
def held(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def master(system: System, name: str) -> Iterator[MasterProcess]:
    """One that stands by, because another leads."""
    made = MasterProcess(system, name)
    try:
        eventually(made.stands_by)
        yield made
    finally:
        made.kill()


def leader(system: System) -> int:
    """The pid of the master that said last that it leads; 0 before one has."""
    said = system.home / "run" / "master.json"
    return int(json.loads(said.read_text())["pid"]) if said.exists() else 0


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def takes_over(system: System, waiting: int, who: MasterProcess) -> float:
    """Seconds until `who`, whose backend waits for the lead, has it; then it says so."""
    begun = time.monotonic()
    eventually(lambda: leaders(system).get(True, (0, None))[0] == waiting, TAKEOVER_S)
    took_s = time.monotonic() - begun
    eventually(lambda: leader(system) == who.pid)
    return took_s


def leaders(system: System) -> dict[bool, tuple[int, Any]]:
    """Backend pid and time of the last question, of who holds the lock and who does not."""
    with system.database() as connection:
        rows = connection.execute(LEADERS).fetchall()
    return {bool(holds): (int(pid), asked_at) for pid, holds, asked_at in rows}


def generation(system: System) -> int:
    with system.database() as connection:
        row = connection.execute(GENERATION, [WORKER]).fetchone()
    assert row
    return int(row[0])


def is_restarted(system: System, killed: int) -> bool:
    """A killed worker runs again, once."""
    pid = system.worker_pid(WORKER)
    if not pid or pid == killed or system.worker_state(WORKER) != "running":
        return False
    mains = sight.mains(system.home)
    assert twice(mains) == []
    return [name for name, _generation in mains] == [WORKER]


def kill_worker(system: System) -> int:
    pid = system.running_worker(WORKER)
    os.kill(pid, signal.SIGKILL)
    return pid


def test_the_second_leads_and_acts_once_the_first_is_killed(alone: System) -> None:
    with master(alone, "second") as second:
        before, waiting = generation(alone), leaders(alone)[False][0]
        killed = alone.running_worker(WORKER)
        for pid in (leader(alone), killed):
            os.kill(pid, signal.SIGKILL)
        print(f"the second leads after {takes_over(alone, waiting, second):.2f} s")
        eventually(lambda: is_restarted(alone, killed))
        assert generation(alone) == before + 1


def test_a_frozen_leader_keeps_the_lead_until_its_connection_is_lost(alone: System) -> None:
    with master(alone, "first") as first:
        waiting = leaders(alone)[False][0]
        os.kill(leader(alone), signal.SIGKILL)
        takes_over(alone, waiting, first)
        with master(alone, "second") as second:
            first.process.send_signal(signal.SIGSTOP)
            for _ in range(2):
                asked_at = leaders(alone)[False][1]
                eventually(lambda: leaders(alone)[False][1] > asked_at)  # noqa: B023 - called here
            assert leader(alone) == first.pid
            of_first, of_second = leaders(alone)[True][0], leaders(alone)[False][0]
            with alone.database() as connection:
                connection.execute("SELECT pg_terminate_backend(%s)", [of_first])
            takes_over(alone, of_second, second)
            killed = kill_worker(alone)
            eventually(lambda: is_restarted(alone, killed))
            decides_nothing(alone, first, second)


def decides_nothing(system: System, deposed: MasterProcess, leads: MasterProcess) -> None:
    """There is something to decide, and nobody else who would."""
    before = generation(system)
    with held(leads.pid):
        killed = kill_worker(system)
        deposed.process.send_signal(signal.SIGCONT)
        assert deposed.process.wait(20) == LEAD_LOST, deposed.log.read_text()
        assert generation(system) == before
        assert system.worker_pid(WORKER) is None
    eventually(lambda: is_restarted(system, killed))
    assert generation(system) == before + 1


def test_a_master_of_another_home_never_starts_what_runs_here(
    fresh_system: System, module_home: Path
) -> None:
    """Two homes share a database. Whoever is faster, the lead is for the home of the workers."""
    servers = Servers(fresh_system.home.parent / "servers")
    shared = {"DATABASE_URL": servers.urls["DATABASE_URL"]}
    other = System(module_home.with_name("other"))
    fresh_system.variables = other.variables = shared
    try:
        prepare(servers.folder)
        servers.start("postgres")
        fresh_system.up()
        worker = eventually(lambda: fresh_system.worker_pid(WORKER))
        eventually(lambda: states(servers) == [("running", 1)])
        said = json.loads(other.manage("bootstrap").stdout.splitlines()[-1])
        assert said["elsewhere"] == f"{socket.gethostname()}:{fresh_system.home}"
        (other.home / "run").mkdir(exist_ok=True)  # `up` would
        with master(other, "elsewhere") as elsewhere:
            first = leader(fresh_system)
            assert fresh_system.process
            with held(fresh_system.process.pid):  # so that ours is not started at once
                os.kill(first, signal.SIGKILL)
                eventually(lambda: f"run in {said['elsewhere']}: no master" in said_by(elsewhere))
            eventually(lambda: leader(fresh_system) not in (first, 0))
            assert (fresh_system.worker_pid(WORKER), states(servers)) == (worker, [("running", 1)])
            assert "this master leads" not in said_by(elsewhere)
            fresh_system.stop()
            eventually(lambda: leader(other) == elsewhere.pid)
    finally:
        other.kill_everything()
        fresh_system.kill_everything()
        servers.end()


def said_by(process: MasterProcess) -> str:
    return process.log.read_text()


def states(servers: Servers) -> list[tuple[str, int]]:
    """State and generation of each worker."""
    with psycopg.connect(servers.urls["DATABASE_URL"], connect_timeout=5) as connection:
        rows = connection.execute("SELECT state, generation FROM lifecycle_workerruntime")
        return [(str(state), int(number)) for state, number in rows]
