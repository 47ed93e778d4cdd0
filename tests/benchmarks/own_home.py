"""Django for benchmarks whose imports need it: set up in a home that goes with the program."""

from __future__ import annotations

import os
import tempfile

import django

_home = tempfile.TemporaryDirectory(prefix="muster-benchmark-")


def set_up() -> None:
    """Before anything of the lifecycle or of sync is imported."""
    os.environ |= {"DJANGO_SETTINGS_MODULE": "crm.settings", "MUSTER_HOME": _home.name}
    django.setup()
