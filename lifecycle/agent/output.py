"""Worker output: from FIFOs into rotated log files, and back out again [L12].

A worker writes into FIFOs that it holds open for reading too, so a write never fails because the
keeper died: what it wrote stays in the pipe until a keeper moves it on. `os.splice` moves bytes
from pipe to file inside the kernel: a keeper killed at any instruction neither loses nor repeats
one. Two keepers write one log while a worker is replaced: they take turns.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROTATE_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5
PIPE_BYTES = 1024 * 1024
DRAIN_TRIES = 1000
LONGEST_LINE = 64 * 1024
CUT_MARK = " … [line cut]"


class LogPump:
    """Moves one FIFO into one log file, and rotates the file by size at a line's end."""

    def __init__(self, fifo: Path, log: Path) -> None:
        self.log = log
        self.source = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self.source, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._lost = 0
        self._turns = os.open(log.with_suffix(".turns"), os.O_RDWR | os.O_CREAT, 0o600)
        self.target = -1
        self._open()

    def _open(self) -> None:
        # Not O_APPEND, which splice refuses: whose turn it is seeks the end.
        target = os.open(self.log, os.O_RDWR | os.O_CREAT, 0o640)
        if self.target != -1:
            os.close(self.target)
        self.target = target
        self.size = os.lseek(self.target, 0, os.SEEK_END)

    def move(self) -> bool:
        """Move what the pipe holds. False when it held nothing."""
        with self._turn():
            try:
                self._find_end()
                if self._lost:
                    self._confess()
                moved = os.splice(self.source, self.target, PIPE_BYTES)
            except BlockingIOError:
                return False
            except OSError:
                return self._discard()
            self.size += moved
            if self.size >= ROTATE_BYTES and self._at_line_end():
                self._rotate()
            return moved > 0

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One keeper at a time. A lock of the process: it ends with it, whatever it forked."""
        fcntl.lockf(self._turns, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._turns, fcntl.LOCK_UN)

    def _find_end(self) -> None:
        """The other keeper may have rotated the file, or written to it, in the middle of a line.

        Raises `OSError`.
        """
        if not self._is_current():
            self._open()
        end = os.lseek(self.target, 0, os.SEEK_END)
        if end != self.size and not self._at_line_end(end):
            end += os.write(self.target, b"\n")
        self.size = end

    def _is_current(self) -> bool:
        try:
            return self.log.stat().st_ino == os.fstat(self.target).st_ino
        except FileNotFoundError:
            return False

    def drain(self) -> None:
        """Move all that is there, at most what the pipe can hold many times over: a stray that
        still writes must not hold us."""
        for _ in range(DRAIN_TRIES):
            if not self.move():
                return

    def close(self) -> None:
        for descriptor in (self.source, self.target, self._turns):
            os.close(descriptor)

    def _discard(self) -> bool:
        """The disk is full, or fails: a worker must not block on that; its output is dropped and
        counted."""
        try:
            dropped = len(os.read(self.source, PIPE_BYTES))
        except BlockingIOError:
            return False
        self._lost += dropped
        return dropped > 0

    def _confess(self) -> None:
        """Say it where it happened: before anything that came later. Raises `OSError`."""
        note = f"\n[muster] {self._lost} bytes of output were lost here: the disk was full\n"
        written = os.write(self.target, note.encode())
        self.size += written
        if written == len(note):
            self._lost = 0

    def _at_line_end(self, end: int | None = None) -> bool:
        end = self.size if end is None else end
        return end == 0 or end >= 2 * ROTATE_BYTES or os.pread(self.target, 1, end - 1) == b"\n"

    def _rotate(self) -> None:
        for number in range(KEPT_FILES - 1, 0, -1):
            older = self.log.with_name(f"{self.log.name}.{number}")
            if older.exists():
                older.replace(self.log.with_name(f"{self.log.name}.{number + 1}"))
        self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        self._open()


def tail(log: Path, lines: int) -> list[str]:
    """The last `lines` lines over the rotated files, oldest first.

    Bytes that are not UTF-8 are shown escaped; a line over 64 KB is cut, with a mark.
    """
    found: list[bytes] = []
    for path in _newest_first(log):
        found = [*_last_lines(path, lines - len(found)), *found]
        if len(found) >= lines:
            break
    return [_shown(line) for line in found]


def _newest_first(log: Path) -> Iterator[Path]:
    yield log
    for number in range(1, KEPT_FILES + 1):
        yield log.with_name(f"{log.name}.{number}")


def _last_lines(path: Path, lines: int) -> list[bytes]:
    block = 256 * 1024
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            data = b""
            while position > 0 and data.count(b"\n") <= lines:
                step = min(block, position)
                position -= step
                file.seek(position)
                data = file.read(step) + data
    except FileNotFoundError:
        return []
    return data.splitlines()[-lines:] if lines > 0 else []


def _shown(line: bytes) -> str:
    text = line[:LONGEST_LINE].decode("utf-8", "backslashreplace")
    return text + CUT_MARK if len(line) > LONGEST_LINE else text
