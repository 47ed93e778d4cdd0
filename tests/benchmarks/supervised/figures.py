"""What is measured of processes, and how it is said."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

MB = 1024 * 1024


def pss_mb(pids: list[int]) -> float:
    """The proportional set size of these processes together."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total / MB


def cpu_s(pids: list[int]) -> float:
    """CPU time of all threads of these processes so far, from the scheduler: nanoseconds exact."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def median(values: list[float]) -> float:
    return statistics.median(values)


def p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[round(0.95 * (len(ordered) - 1))]


def table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a Markdown table, the first column left-aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    print(f"\n{title}\n")
    for row in (heads, tuple("-" * width for width in widths), *rows):
        first, *more = (
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("| " + " | ".join([first, *more]) + " |")
