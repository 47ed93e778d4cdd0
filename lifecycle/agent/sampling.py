"""CPU and memory of every worker of this host, in one pass."""

from __future__ import annotations

import time

import psutil

from lifecycle.types import Instance, ProcessRef

MB = 1024 * 1024

Sample = tuple[str, int, float, float]  # worker_id, generation, CPU %, memory in MB (PSS)


class Usage:
    """Remembers CPU times between two passes, so that a pass gives percentages."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float]] = {}  # pid -> (taken at, CPU seconds)

    def sample(self, workers: list[tuple[Instance, ProcessRef]]) -> list[Sample]:
        """One row for each worker, its pool children included. CPU % is since the last pass."""
        children = _children_by_parent() if workers else {}
        now, seen, rows = time.monotonic(), {}, []
        for instance, main in workers:
            cpu_s, memory = _tree_usage(main.pid, children)
            seen[main.pid] = (now, cpu_s)
            before_at, before_s = self._before.get(main.pid, (now, cpu_s))
            elapsed = now - before_at
            percent = max(0.0, 100 * (cpu_s - before_s) / elapsed) if elapsed > 0 else 0.0
            rows.append(
                (instance.worker_id, instance.generation, round(percent, 2), round(memory / MB, 2))
            )
        self._before = seen
        return rows


def _children_by_parent() -> dict[int, list[int]]:
    """Every process of the host by its parent: one look at /proc for all workers."""
    children: dict[int, list[int]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process.pid)
    return children


def _tree_usage(root: int, children: dict[int, list[int]]) -> tuple[float, int]:
    """CPU seconds and PSS bytes of a process and its descendants; the vanished count nothing."""
    cpu_s, memory, todo = 0.0, 0, [root]
    while todo:
        pid = todo.pop()
        todo.extend(children.get(pid, ()))
        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_s += times.user + times.system
            memory += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return cpu_s, memory
