"""What an idle fleet costs its master and its agent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.supervised import figures, muster

REAL = 100
MB_EACH = 40  # generous: as many as fit below half of what is free
SIMULATED = (100, 1_000, 5_000)
TINY = (100, 500)
WARM_UP_S = 15.0
WATCHED_S = 30.0  # one resync, three passes of samples, six checkups
BEAT_S = 10.0

BEAT = "UPDATE lifecycle_workerruntime SET last_heartbeat_at = now()"
COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


def _rest(seconds: float) -> None:
    threading.Event().wait(seconds)


def percent(groups: dict[str, list[int]], seconds: float = WATCHED_S) -> dict[str, float]:
    """CPU of these processes in % of one core, by group, over `seconds` from now."""
    before = {name: figures.cpu_s(pids) for name, pids in groups.items()}
    begun = time.monotonic()
    _rest(seconds)
    took = time.monotonic() - begun
    return {
        name: 100 * (figures.cpu_s(pids) - before[name]) / took for name, pids in groups.items()
    }


def real_workers() -> None:
    """Idle Celery workers, as many as fit."""
    count = min(REAL, int(_available_mb() / 2 / MB_EACH))
    with muster.running() as system:
        for number in range(count):
            system.add(f"real-{number}")
        for number in range(count):
            system.running(f"real-{number}", patience_s=300)
        _rest(WARM_UP_S)
        agent, zygote, *others = system.host_pids()
        used = percent(
            {
                "master": [system.master.pid],
                "agent": [agent],
                "zygote, keepers": [zygote, *others[:count]],
                "workers": others[count:],
            }
        )
    both = used["master"] + used["agent"]
    rows = [("master + agent", f"{both:.2f}"), *((n, f"{v:.2f}") for n, v in used.items())]
    figures.table(f"CPU with {count} idle Celery workers", ("", "% of one core"), rows)


def simulated_workers() -> None:
    """The master, with rows, heartbeats and samples of workers that aren't there."""
    from crm.env import env

    rows = []
    for count in SIMULATED:
        stub = ("-m", "tests.benchmarks.supervised.stub_agent", str(env.agent_socket), str(count))
        _insert(count)
        with muster.running(stub, fleet_ends=False) as system, _beating():
            _rest(WARM_UP_S)
            commits = system.reader.execute(COMMITS).fetchone()
            used = percent({"master": [system.master.pid]})["master"]
            more = system.reader.execute(COMMITS).fetchone()
            per_s = (int(str(more[0])) - int(str(commits[0]))) / WATCHED_S  # type: ignore[index]
        rows.append(
            (f"{count:,}", f"{used:.2f}", f"{1e4 * used / count:.1f}", f"{per_s:.2f}"),
        )
    heads = ("simulated workers", "master, % of one core", "µs a second each", "transactions/s")
    figures.table("CPU of the master with a stub for an agent", heads, rows)


def tiny_workers() -> None:
    """The agent and the master, with real processes that do nothing."""
    from crm.env import env

    rows, agent = [], ("-m", "tests.tiny_agent", str(env.home), str(env.agent_socket))
    for count in TINY:
        with muster.running(agent) as system:
            for number in range(count):
                system.add(f"tiny-{number}")
            for number in range(count):
                system.spawned(f"tiny-{number}", patience_s=300)
            with _beating():
                _rest(WARM_UP_S)
                used = percent({"master": [system.master.pid], "agent": [system.agent.pid]})
        each = 1e4 * used["agent"] / count
        rows.append((f"{count:,}", f"{used['master']:.2f}", f"{used['agent']:.2f}", f"{each:.1f}"))
    heads = ("tiny workers", "master, %", "agent, %", "agent, µs a second each")
    figures.table("CPU with idle processes that are no Celery workers", heads, rows)


def _insert(count: int) -> None:
    """Rows of running workers, straight into the tables: the fleet is simulated."""
    from django.utils import timezone

    from lifecycle.models import WorkerConfig, WorkerRuntime

    configs = WorkerConfig.objects.bulk_create(
        [WorkerConfig(worker_id=f"sim-{n}") for n in range(count)], batch_size=500
    )
    now = timezone.now()
    WorkerRuntime.objects.bulk_create(
        [
            WorkerRuntime(
                config=config,
                desired_state="running",
                state="running",
                generation=1,
                last_generation=1,
                wanted_generation=1,
                process_id=100_000 + n,
                started_at=now,
                ready_at=now,
                last_heartbeat_at=now,
            )
            for n, config in enumerate(configs)
        ],
        batch_size=500,
    )


@contextmanager
def _beating() -> Iterator[None]:
    """The heartbeats of all workers, in one statement."""
    import psycopg

    from crm.env import env

    done = threading.Event()

    def beat() -> None:
        with psycopg.connect(env.resolved_database_url, autocommit=True) as connection:
            while not done.is_set():
                connection.execute(BEAT)
                done.wait(BEAT_S)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _available_mb() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    return 0.0
