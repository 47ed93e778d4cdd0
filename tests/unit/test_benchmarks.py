"""Benchmarks are no part of the test run; that they can still begin is."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys

import pytest

from crm.env import CHECKOUT
from tests import benchmarks

PROGRAMS = [one.name for one in pkgutil.iter_modules(benchmarks.__path__) if not one.ispkg]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_benchmark_begins_in_a_bare_environment(name: str) -> None:
    """As from a shell: nobody has set Django up, nor named a home."""
    given = ("DJANGO_SETTINGS_MODULE", "MUSTER_", "DATABASE_URL", "BROKER_URL")
    bare = {key: value for key, value in os.environ.items() if not key.startswith(given)}
    command = [sys.executable, "-c", f"import tests.benchmarks.{name}"]
    done = subprocess.run(command, cwd=CHECKOUT, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
