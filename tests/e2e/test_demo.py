"""`manage.py demo`: messages arrive, it ends cleanly, and goes on the next time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from crm.demo.install import install
from crm.demo.people import BURST, PART_BYTES, STORY_BYTES, parts_of
from crm.demo.script import PEOPLE, long_story
from tests.contract.conftest import CACHE
from tests.e2e.system import CHECKOUT, System
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

TALKING = "four people talk on"
GREETINGS = sum(len(person.greeting) * len(person.talks_to) for person in PEOPLE)
STORY = long_story(STORY_BYTES)
# Both accounts are in the group, where the burst was; at least one more message was said since.
EVERYTHING = GREETINGS + 2 * BURST + len(list(parts_of(STORY, PART_BYTES))) + 1
TEXTS = "SELECT text FROM sync_message"


@pytest.fixture
def demo(fresh_system: System) -> System:
    """A home in which the demo finds its homeserver installed."""
    install(CACHE / "synapse", print)
    (fresh_system.home / "demo").mkdir(parents=True, mode=0o700)
    (fresh_system.home / "demo" / "synapse").symlink_to(CACHE / "synapse")
    return fresh_system


def begin(demo: System) -> None:
    """Start it, and wait until its people talk."""
    with demo.console.open("wb") as console:
        demo.process = subprocess.Popen(
            [sys.executable, "manage.py", "demo"],
            cwd=CHECKOUT,
            env=demo.environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    process = demo.process
    eventually(lambda: TALKING in demo.said() or process.poll() is not None, 180)
    assert TALKING in demo.said(), demo.said()


def texts(demo: System) -> list[str]:
    """Of all stored messages, of both accounts; none while there is no database."""
    try:
        with demo.database() as connection:
            return [str(row[0]) for row in connection.execute(TEXTS).fetchall()]
    except psycopg.Error:
        return []


def end(demo: System) -> None:
    assert demo.stop() < 30
    assert demo.process
    assert demo.process.returncode == 0, demo.said()
    eventually(lambda: not demo.processes(), 5)


def test_messages_arrive_and_the_next_run_goes_on(demo: System) -> None:
    begin(demo)
    eventually(lambda: len(texts(demo)) >= EVERYTHING, 60)
    said = texts(demo)
    parts = [text.partition(") ") for text in said if re.match(r"\(\d+/\d+\) ", text)]
    numbered = sorted((int(head[1:].split("/")[0]), body) for head, _, body in parts)
    assert "".join(body for _, body in numbered) == STORY
    assert {line for person in PEOPLE for line in person.greeting} <= set(said)
    assert "M_TOO_LARGE" in demo.said()
    assert secret_files_are_private(demo.home / "demo")
    end(demo)

    begin(demo)
    assert "registered" not in demo.said()
    assert "account @sales:demo.muster: is there" in demo.said()
    eventually(lambda: len(texts(demo)) > len(said), 60)
    second = subprocess.run(
        [sys.executable, "manage.py", "demo"],
        cwd=CHECKOUT,
        env=demo.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert "a demo already runs" in second.stderr
    end(demo)


def secret_files_are_private(directory: Path) -> bool:
    secrets = [*(directory / "passwords").iterdir(), directory / "homeserver" / "homeserver.yaml"]
    return all(path.stat().st_mode & 0o077 == 0 for path in secrets)
