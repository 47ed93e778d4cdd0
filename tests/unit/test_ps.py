"""How `manage.py ps` says what it saw."""

from __future__ import annotations

import pytest

from crm.management.commands.ps import as_json, span, table, text
from crm.up.overview import Overview, Row

UP = Row("up", "part", 7, "running", 61.0, 40.2)
WEB = Row("web", "part", 8, "running", 5.0, 88.0, restarts=2)
WORKER = Row("worker-1", "worker", None, "stopped")


def seen(*rows: Row, running: bool = True, database: bool = True) -> Overview:
    return Overview("/home/var", "http://127.0.0.1:8000/admin/", running, database, rows)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0s"), (59.9, "59s"), (60, "1m 00s"), (3725, "1h 02m"), (90_000, "1d 1h")],
)
def test_span(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_columns_are_aligned() -> None:
    assert table([("NAME", "PID"), ("postgres", "1"), ("a", "12345")]) == [
        "NAME      PID",
        "postgres  1",
        "a         12345",
    ]


def test_text_shows_every_row() -> None:
    lines = text(seen(UP, WEB, WORKER)).splitlines()
    assert lines[0] == "http://127.0.0.1:8000/admin/  (home /home/var)"
    assert [line.split() for line in lines[3:]] == [
        ["up", "7", "running", "1m", "01s", "40", "MB", "0"],
        ["web", "8", "running", "5s", "88", "MB", "2"],
        ["worker-1", "-", "stopped", "-", "-", "0"],
    ]


def test_text_says_when_nobody_supervises_and_when_the_database_is_away() -> None:
    said = text(seen(WEB, running=False, database=False))
    assert "nobody keeps these alive" in said
    assert "The database is away" in said


def test_nothing_runs() -> None:
    nothing = seen(WORKER, running=False)
    assert nothing.nothing_runs
    assert text(nothing) == "Nothing runs in /home/var. Start it with: make up"


def test_json_keeps_parts_and_workers_apart() -> None:
    content = as_json(seen(UP, WORKER))
    assert [row["name"] for row in content["parts"]] == ["up"]
    assert [row["name"] for row in content["workers"]] == ["worker-1"]
    assert content["running"] is True
