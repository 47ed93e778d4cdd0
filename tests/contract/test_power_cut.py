"""After a power cut, files that were not fsynced may come back empty: the agent starts all the same
and reports what it can [L10]."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crm.up.leftovers import end_workers
from lifecycle.agent.layout import Home, SpawnDir
from lifecycle.agent.roster import Roster
from lifecycle.types import Alive, Exit, Gone, Instance, ProcessRef
from tests.host import spec

WORKER = Instance("worker-1", 1)


def ended(home: Home, torn: set[str]) -> SpawnDir:
    """A spawn of the boot before, which ended just before the power went."""
    spawn = home.spawn_dir(WORKER)
    now = datetime.now(UTC)
    keeper, worker = ProcessRef(1, 1, "before"), ProcessRef(2, 1, "before")
    spawn.create(spec())
    spawn.record_instance(keeper, Alive(WORKER, worker, now))
    spawn.record_exit(Gone(WORKER, Exit(code=7), now, now))
    for name in torn:
        (spawn.path / f"{name}.json").write_bytes(b"")
    return spawn


async def taken_over(home: Home) -> dict[str, Any]:
    """What the next agent tells its master, once it has looked at all that it found."""
    roster = Roster(home, lambda _event: None, lambda _instance: None)
    roster.take_over()
    async with asyncio.timeout(5):
        while roster.kept:
            await asyncio.sleep(0.01)
    return roster.snapshot()


@pytest.mark.parametrize(
    ("torn", "code"),
    [({"exit"}, None), ({"instance"}, 7), ({"spec"}, 7), ({"exit", "spec"}, None)],
)
def test_an_empty_file_keeps_no_agent_from_starting(
    tmp_path: Path, torn: set[str], code: int | None
) -> None:
    home = Home(tmp_path)
    spawn = ended(home, torn)
    said = asyncio.run(taken_over(home))
    assert said["alive"] == []
    assert [one["exit"]["code"] for one in said["gone"]] == [code]
    assert spawn.gone(), "it is on record"
    assert end_workers(tmp_path) == []


def test_a_spawn_of_which_nothing_is_known_is_removed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    spawn = ended(home, {"spec", "instance", "exit"})
    assert end_workers(tmp_path) == []
    assert asyncio.run(taken_over(home))["gone"] == []
    assert not spawn.path.exists()
