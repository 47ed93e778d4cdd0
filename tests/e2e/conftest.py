"""Whole systems for end-to-end tests, each in a temporary home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.system import System


@pytest.fixture(scope="module")
def module_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    system = System(tmp_path_factory.mktemp("system") / "home")
    yield system
    system.kill_everything()


@pytest.fixture
def system(module_system: System) -> System:
    """A system that is up and ready; one for each test module, brought up again when need be."""
    module_system.up()
    return module_system


@pytest.fixture
def fresh_system(tmp_path: Path) -> Iterator[System]:
    """A system that was never started, for one test."""
    system = System(tmp_path / "home")
    yield system
    system.kill_everything()
