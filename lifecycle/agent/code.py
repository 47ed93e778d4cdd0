"""Which code a process has imported, as a fingerprint."""

from __future__ import annotations

import hashlib
from importlib.metadata import distributions
from pathlib import Path

LENGTH = 12
TESTS = "tests"


def fingerprint(checkout: Path) -> str:
    """Of the sources of every package in `checkout` (its tests apart), and of the versions of all
    that is installed. Two of them are equal when a worker would run the same code."""
    digest = hashlib.sha256()
    for package in sorted(checkout.glob("*/__init__.py")):
        if package.parent.name != TESTS:
            for source in sorted(package.parent.rglob("*.py")):
                digest.update(str(source.relative_to(checkout)).encode() + b"\0")
                digest.update(source.read_bytes() + b"\0")
    for name in sorted(f"{d.name}=={d.version}" for d in distributions()):
        digest.update(name.encode() + b"\0")
    return digest.hexdigest()[:LENGTH]
