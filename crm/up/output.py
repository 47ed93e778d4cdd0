"""Part logs: files that the parts append to themselves, kept small from outside."""

from __future__ import annotations

import logging
import logging.handlers
import os
import shutil
from pathlib import Path

LIMIT_BYTES = 10 * 1024 * 1024
KEPT = 3


def open_log(path: Path) -> int:
    """A descriptor for a child to append to. It needs no reader that could die."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def rotate(path: Path, *, limit_bytes: int = LIMIT_BYTES, kept: int = KEPT) -> bool:
    """Move the content of a grown log to `<name>.1` and so on, and empty the file.

    The writer keeps its descriptor and appends at the new end. A line that is written between the
    last read and the truncation, some microseconds, is the price of that.
    """
    try:
        if path.stat().st_size < limit_bytes:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept - 1, 0, -1):
        older = _numbered(path, number)
        if older.exists():
            older.rename(_numbered(path, number + 1))
    descriptor = os.open(_numbered(path, 1), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with path.open("r+b") as source, os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(source, target)
        source.truncate(0)
    return True


def log_to_file(path: Path) -> None:
    """Send this process's own log to a rotated file: its console is for people."""
    root = logging.getLogger()
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LIMIT_BYTES, backupCount=KEPT)
    if root.handlers:
        handler.setFormatter(root.handlers[0].formatter)
    root.handlers[:] = [handler]


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
