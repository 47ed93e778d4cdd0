"""CPU and memory of every worker of this host, in one pass.

One read of /proc/<pid>/stat for each process of the host tells parents, CPU times and RSS. PSS, the
fair share of memory that is shared with the zygote and with other workers, makes the kernel walk
all pages of a process, a hundred times the cost: it is read when RSS has moved, or is old.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lifecycle.agent import process
from lifecycle.types import Instance, ProcessRef

MB = 1024 * 1024
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# A process whose RSS stays within this of what it was keeps its PSS for a minute: others that start
# and end change how much of it is shared.
RSS_MOVED_BYTES = MB
PSS_FRESH_S = 60.0

Sample = tuple[str, int, float, float]  # worker_id, generation, CPU %, memory in MB (PSS)


def until_next(wall: float, interval_s: float) -> float:
    """Seconds to the next pass: in the middle of each interval of the clock, so that every interval
    of the stored series gets exactly one, however long a pass takes."""
    return (interval_s / 2 - wall) % interval_s or interval_s


class Seen(NamedTuple):
    """One process as its stat file shows it; a recycled pid has another start."""

    pid: int
    parent: int
    started_ticks: int
    cpu_s: float
    rss: int

    @property
    def key(self) -> tuple[int, int]:
        return self.pid, self.started_ticks


@dataclass(frozen=True, slots=True)
class Known:
    """What the passes before have learnt of a process."""

    cpu_s: float
    pss: int
    pss_at: float
    pss_rss: int  # RSS when PSS was read


class Usage:
    """Remembers what it saw, so that a pass gives percentages and reads little."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Known] = {}
        self._passed_at: float | None = None

    def sample(self, workers: list[tuple[Instance, ProcessRef]]) -> list[Sample]:
        """One row for each worker, its pool children included. CPU % is since the last pass."""
        now = time.monotonic()
        elapsed = now - self._passed_at if self._passed_at is not None else 0.0
        seen = {one.pid: one for one in _processes()} if workers else {}
        children = _by_parent(seen)
        known, rows = {}, []
        for instance, main in workers:
            spent_s, memory = 0.0, 0
            for one in _tree(main, seen, children):
                before = self._known.get(one.key)
                known[one.key] = learnt = _learn(one, before, now)
                spent_s += one.cpu_s - (before.cpu_s if before else 0.0)
                memory += learnt.pss
            percent = 100 * spent_s / elapsed if elapsed > 0 else 0.0
            rows.append(
                (instance.worker_id, instance.generation, round(percent, 2), round(memory / MB, 2))
            )
        self._known, self._passed_at = known, now
        return rows


def _processes() -> Iterator[Seen]:
    """Every process of the host: one look at /proc for all workers."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := process.stat_fields(int(entry.name))):
            yield Seen(
                pid=int(entry.name),
                parent=int(fields[1]),
                started_ticks=int(fields[19]),
                cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_A_SECOND,
                rss=int(fields[21]) * PAGE_BYTES,
            )


def _by_parent(seen: dict[int, Seen]) -> dict[int, list[Seen]]:
    children: dict[int, list[Seen]] = {}
    for one in seen.values():
        children.setdefault(one.parent, []).append(one)
    return children


def _tree(
    main: ProcessRef, seen: dict[int, Seen], children: dict[int, list[Seen]]
) -> Iterator[Seen]:
    """A worker's main process and its descendants; nothing when it is gone."""
    found = seen.get(main.pid)
    todo = [found] if found and found.started_ticks == main.started_ticks else []
    while todo:
        one = todo.pop()
        todo.extend(children.get(one.pid, ()))
        yield one


def _learn(one: Seen, before: Known | None, now: float) -> Known:
    if (
        before
        and abs(one.rss - before.pss_rss) < RSS_MOVED_BYTES
        and now - before.pss_at < PSS_FRESH_S
    ):
        return Known(one.cpu_s, before.pss, before.pss_at, before.pss_rss)
    return Known(one.cpu_s, _pss(one.pid), now, one.rss)


def _pss(pid: int) -> int:
    """Bytes; 0 for a process that is gone or not ours to look at."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:  # noqa: PTH123 - read often, kept cheap
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0
