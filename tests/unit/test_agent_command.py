"""`manage.py agent`: small, and soon back."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from crm import agent
from lifecycle.agent.server import Agent

ROOT = Path(__file__).parents[2]
MANAGE = str(ROOT / "manage.py")
HEAVY = ("django", "celery", "lifecycle.models", "sync")


def test_the_agent_loads_what_it_needs_and_no_more() -> None:
    """[L10, L17] An agent that imports the apps is away for seconds on a loaded host."""
    look = f"import sys, crm.agent; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_zygote_command_may_have_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[list[str]] = []
    limits: list[tuple[int, int]] = []
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    class Spied(Agent):
        def __init__(self, home: Path, socket_path: Path, zygote_command: Sequence[str]) -> None:
            seen.append(list(zygote_command))
            super().__init__(home, socket_path, zygote_command)

        async def run(self) -> None:
            limits.append(resource.getrlimit(resource.RLIMIT_NOFILE))

    monkeypatch.setattr(agent, "Agent", Spied)
    monkeypatch.setattr("lifecycle.agent.limits.find_room", lambda: None)
    monkeypatch.setattr(agent, "take_agent_lock", lambda _path: None)
    monkeypatch.setattr(agent, "setproctitle", lambda _title: None)
    monkeypatch.setattr("logging.config.dictConfig", lambda _config: None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
    try:
        assert agent.command(["--zygote", "python", "-m", "module", "zygote"]) == 0
        assert agent.command([]) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
    assert limits == [(hard, hard)] * 2, "it holds four descriptors a worker"
    assert seen == [["python", "-m", "module", "zygote"], [sys.executable, MANAGE, "zygote"]]
