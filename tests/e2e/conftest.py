"""Whole systems for end-to-end tests, each in a temporary home."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.conftest import certificate, homeserver, post, prosody, site
from tests.e2e.prepared import prepare
from tests.e2e.system import System

__all__ = ["certificate", "homeserver", "post", "prosody", "site"]


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A home outside pytest's own folder, which each run of pytest closes to other users again."""
    folder = Path(tempfile.mkdtemp(prefix="muster-e2e-"))
    yield folder / "home"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest.fixture(scope="module")
def module_home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest.fixture(scope="module")
def module_system(module_home: Path) -> Iterator[System]:
    prepare(module_home)
    system = System(module_home)
    yield system
    system.kill_everything()


@pytest.fixture
def system(module_system: System) -> System:
    """A system that is up and ready; one for each test module, brought up again when need be."""
    module_system.up()
    return module_system


@pytest.fixture
def fresh_system(home: Path) -> Iterator[System]:
    """A system that was never started, for one test, without a file of it."""
    system = System(home)
    yield system
    system.kill_everything()


@pytest.fixture
def new_system(home: Path) -> Iterator[System]:
    """A system that was never started, for one test, with a prepared database."""
    prepare(home)
    system = System(home)
    yield system
    system.kill_everything()
