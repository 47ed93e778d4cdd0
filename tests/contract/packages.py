"""Programs that tests need and that a Debian package brings."""

from __future__ import annotations

import os
import shutil

import pytest

PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str, *packages: str) -> str:
    """Its path. `.ci/run` installs the packages, so that there a test never goes without."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        message = f"needs {name}: apt install --no-install-recommends {' '.join(packages)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
