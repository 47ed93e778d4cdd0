"""`manage.py ps`: every part and worker of this home."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from crm.env import env
from crm.up.overview import Overview, Row, overview

NOTHING_RUNS = 3  # as `systemctl status` says it
TITLES = ("NAME", "PID", "STATE", "UPTIME", "MEMORY", "RESTARTS")


class Command(BaseCommand):
    help = "List every part and worker: name, pid, state, uptime, memory. Exit code 3: none runs."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="machine-readable")

    def handle(self, *args: Any, **options: Any) -> None:
        seen = overview(env)
        self.stdout.write(json.dumps(as_json(seen), indent=2) if options["json"] else text(seen))
        if seen.nothing_runs:
            sys.exit(NOTHING_RUNS)


def as_json(seen: Overview) -> dict[str, Any]:
    """Rows apart by kind: {"home", "url", "running", "database", "parts": […], "workers": […]}."""
    content = asdict(seen)
    rows = content.pop("rows")
    for kind in ("part", "worker"):
        content[f"{kind}s"] = [row for row in rows if row["kind"] == kind]
    return content


def text(seen: Overview) -> str:
    if seen.nothing_runs:
        return f"Nothing runs in {seen.home}. Start it with: make up"
    lines = [f"{seen.url}  (home {seen.home})", "", *table([TITLES, *map(cells, seen.rows)])]
    if not seen.running:
        lines += ["", "`up` does not run: nobody keeps these alive. The next `make up` takes over."]
    if seen.reload_failure:
        lines += ["", f"New workers keep the code that is loaded: {seen.reload_failure}"]
    if not seen.database:
        lines += ["", "The database is away: the states of workers are unknown."]
    return "\n".join(lines)


def cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        str(row.pid or "-"),
        row.state,
        "-" if row.uptime_s is None else span(row.uptime_s),
        "-" if row.memory_mb is None else f"{row.memory_mb:.0f} MB",
        str(row.restarts),
    )


def span(seconds: float) -> str:
    """A duration as people read it: 42s, 3m 05s, 2h 10m, 3d 4h."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Aligned columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
