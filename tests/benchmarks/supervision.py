"""What supervision costs, and how soon a dead worker is back: Muster beside the others.

`python -m tests.benchmarks.supervision [--part ready --part tiny …] [--kills 20]`. Everything that
is compared is measured in one run, in turn, on a Muster of its own: durable embedded PostgreSQL,
Valkey, master, agent and real Celery workers. The other supervisors run the same worker with the
same options and zero delays. It is no part of the test run.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.benchmarks.supervised import figures, idle, muster, others
from tests.benchmarks.supervised.stamps import SOCKET_VARIABLE, Stamps

CONCURRENCY = 4
SETTLE_S = 0.5
FLEET = 20
PSS_SIZES = (1, 10, 30)
RECORDED, SEEN = "Muster, recorded", "Muster, recorded and seen"


def rest(seconds: float) -> None:
    threading.Event().wait(seconds)


def program(worker_id: str) -> list[str]:
    """The command by which other supervisors run the worker that Muster forks."""
    from lifecycle.agent.worker_main import arguments
    from lifecycle.types import Instance, Pool, WorkerSpec

    spec = WorkerSpec(Instance(worker_id, 1), ("default",), Pool.THREADS, CONCURRENCY)
    app = "tests.benchmarks.supervised.stamped"
    return [sys.executable, "-m", "celery", "-A", app, "worker", *arguments(spec)]


@contextmanager
def started(kinds: dict[str, others.Programs], folder: Path, stamps: Stamps) -> Iterator[None]:
    """These supervisors, each with its programs; all children are up."""
    with ExitStack() as stack:
        for kind, programs in kinds.items():
            place = folder / kind.replace(" ", "-")
            stack.enter_context(others.running(kind, place, programs, dict(os.environ)))
            stamps.wait_all(set(programs))
        yield


def kill(pid: int) -> int:
    """SIGKILL; the time of it."""
    at_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    return at_ns


def ms_since(at_ns: int, then_ns: int | None = None) -> float:
    return ((then_ns or time.monotonic_ns()) - at_ns) / 1e6


def killed_by_turns(
    system: muster.Muster,
    stamps: Stamps,
    names: dict[str, str],
    kills: int,
    recorded: Callable[[str, int], muster.Row],
) -> dict[str, list[float]]:
    """Milliseconds from kill to stamp by kind; `RECORDED` is to the commit of the row, `SEEN` to
    the answer that somebody gets who looks when notified of it.

    `names` are the workers by kind.
    """
    took: dict[str, list[float]] = {kind: [] for kind in [*names, RECORDED, SEEN]}
    for _ in range(kills):
        for kind, name in names.items():
            rest(SETTLE_S)
            generation = system.look(name)[1] if kind == "Muster" else 0
            at_ns = kill(stamps.pids[name])
            if kind == "Muster":
                recorded(name, generation)
                took[SEEN].append(ms_since(at_ns))
                took[RECORDED].append(ms_since(at_ns, system.committed_ns(name)))
            took[kind].append(ms_since(at_ns, stamps.wait(name).at_ns))
    return took


def show_times(title: str, took: dict[str, list[float]]) -> None:
    ours = figures.median(took[RECORDED])
    rows = [
        (
            kind,
            f"{figures.median(values):.1f}",
            f"{figures.p95(values):.1f}",
            f"{max(values):.1f}",
            f"{figures.median(values) / ours:.2f}",
        )
        for kind, values in took.items()
    ]
    figures.table(title, ("", "median ms", "p95 ms", "worst ms", "of Muster, recorded"), rows)


# --- the parts ---


def ready(folder: Path, stamps: Stamps, kills: int) -> None:
    """(a) kill -9 of the worker's main process, until the next one consumes."""
    names = {"Muster": "muster-w", "supervisord": "supervisord-w", "circus": "circus-w"}
    kinds = {kind: {name: program(name)} for kind, name in names.items() if kind != "Muster"}
    with muster.running() as system:
        system.add(names["Muster"], concurrency=CONCURRENCY)
        system.running(names["Muster"])
        stamps.wait(names["Muster"])
        with started(kinds, folder, stamps):
            took = killed_by_turns(system, stamps, names, kills, system.running)
    show_times(
        f"kill -9 → `worker_ready`, {kills} kills by turns; recorded: `running` in the database",
        took,
    )


def tiny(folder: Path, stamps: Stamps, kills: int) -> None:
    """(b) crash → first instruction of the next tiny child; Muster's with its database record."""
    child = str(others.tiny_child(folder))
    kinds = {
        kind: {kind.replace(" ", "-"): [child, str(stamps.path), kind.replace(" ", "-")]}
        for kind in ("bare loop", "supervisord", "circus", "circus 10 ms")
    }
    names = {"Muster": "muster-t"} | {kind: next(iter(made)) for kind, made in kinds.items()}
    from crm.env import env

    agent = ("-m", "tests.tiny_agent", str(env.home), str(env.agent_socket))
    with muster.running(agent) as system:
        system.add(names["Muster"], command_args=[f"stamp={names['Muster']}"])
        system.spawned(names["Muster"])
        stamps.wait(names["Muster"])
        with started(kinds, folder, stamps):
            took = killed_by_turns(system, stamps, names, kills, system.spawned)
    show_times(
        f"crash → first instruction of the next tiny child, {kills} kills by turns; recorded: its"
        " exit and the new process are committed",
        took,
    )


def memory(folder: Path, stamps: Stamps, _kills: int) -> None:
    """(c) PSS of supervisor and workers together, for fleets of three sizes."""
    sums: dict[str, list[float]] = {"Muster": [], "supervisord": []}
    with muster.running() as system:
        for before, size in zip((0, *PSS_SIZES), PSS_SIZES, strict=False):
            for number in range(before, size):
                system.add(f"muster-{number}", concurrency=CONCURRENCY)
            for number in range(before, size):
                system.running(f"muster-{number}")
            rest(SETTLE_S)
            sums["Muster"].append(figures.pss_mb(system.host_pids()))
    for size in PSS_SIZES:
        made = {f"s-{size}-{number}": program(f"s-{size}-{number}") for number in range(size)}
        place = folder / f"pss-{size}"
        with others.running("supervisord", place, made, dict(os.environ)) as supervisor:
            stamps.wait_all(set(made))
            rest(SETTLE_S)
            workers = [stamps.pids[name] for name in made]
            sums["supervisord"].append(figures.pss_mb([*supervisor.pids, *workers]))
    _show_memory(sums)


def _show_memory(sums: dict[str, list[float]]) -> None:
    def each(values: list[float], n: int) -> float:
        return (values[n] - values[n - 1]) / (PSS_SIZES[n] - PSS_SIZES[n - 1])

    rows = [
        (
            kind,
            *(f"{value:.0f}" for value in values),
            *(f"{each(values, n):.1f}" for n in (1, 2)),
        )
        for kind, values in sums.items()
    ]
    ratios = [each(sums["Muster"], n) / each(sums["supervisord"], n) for n in (1, 2)]
    rows.append(("Muster / supervisord", "", "", "", *(f"{ratio:.2f}" for ratio in ratios)))
    heads = ("PSS in MB", *(f"{n} workers" for n in PSS_SIZES), "each, 1 → 10", "each, 10 → 30")
    figures.table(
        "memory: agent, zygote, keepers and workers / supervisord and workers", heads, rows
    )


def fleet(folder: Path, stamps: Stamps, _kills: int) -> None:
    """(e) from the wish to the last of 20 workers ready."""
    with muster.running() as system:
        names = [f"muster-{number}" for number in range(FLEET)]
        for name in names:
            system.add(name, start=False, concurrency=CONCURRENCY)
        rest(SETTLE_S)
        from lifecycle import services

        begun_ns = time.monotonic_ns()
        for name in names:
            services.request_start(name, "benchmark")
        last_ns = stamps.wait_all(set(names))
        for name in names:
            system.running(name)
        rows = [("Muster, all recorded", f"{ms_since(begun_ns):.0f}")]
        rows.append(("Muster", f"{ms_since(begun_ns, last_ns):.0f}"))
    for kind in ("supervisord", "circus"):
        made = {f"{kind}-{n}": program(f"{kind}-{n}") for n in range(FLEET)}
        begun_ns = time.monotonic_ns()
        with others.running(kind, folder / f"{kind}-fleet", made, dict(os.environ)):
            rows.append((kind, f"{ms_since(begun_ns, stamps.wait_all(set(made))):.0f}"))
    figures.table(f"start of {FLEET} workers, until the last is ready", ("", "ms"), rows)


def cpu(_folder: Path, _stamps: Stamps, _kills: int) -> None:
    """(d) what master and agent use while nothing happens."""
    idle.real_workers()
    idle.tiny_workers()


def simulated(_folder: Path, _stamps: Stamps, _kills: int) -> None:
    """(d) what the master uses for fleets that are only rows, heartbeats and a stub agent."""
    idle.simulated_workers()


PARTS: dict[str, Callable[[Path, Stamps, int], None]] = {
    "ready": ready,
    "tiny": tiny,
    "memory": memory,
    "cpu": cpu,
    "simulated": simulated,
    "fleet": fleet,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.supervision")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="default: all")
    parser.add_argument("--kills", type=int, default=20)
    chosen = parser.parse_args()
    others.install()
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's user passes through
        muster.set_environment(folder / "home")
        stamps = Stamps(folder / "stamps")
        os.environ[SOCKET_VARIABLE] = str(stamps.path)
        with muster.servers():
            for part in chosen.part or PARTS:
                stamps.forget()
                place = folder / part
                place.mkdir()
                PARTS[part](place, stamps, chosen.kills)


if __name__ == "__main__":
    main()
