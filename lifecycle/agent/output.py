"""Worker output: from FIFOs into rotated log files [L12].

A worker writes into FIFOs that it holds open for reading too, so a write never fails because the
keeper died: what it wrote stays in the pipe until a keeper moves it on. `os.splice` moves bytes
from pipe to file inside the kernel: a keeper killed at any instruction neither loses nor repeats
one.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from lifecycle.agent import logfiles
from lifecycle.logs.lines import LONGEST_LINE

PIPE_BYTES = 1024 * 1024
DRAIN_TRIES = 10_000
# At most so much in one go: a file is larger than it should be by this and one line at most.
MOVE_BYTES = 256 * 1024


class LogPump:
    """Moves one FIFO into one log file, and rotates the file by size at a line's end."""

    def __init__(self, fifo: Path, log: Path, max_bytes: int, kept: int) -> None:
        self.log = log
        self.max_bytes = max_bytes
        self.kept = kept
        self.source = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        # Beyond a number of pipes the kernel leaves them small for all but root (pipe(7)).
        with suppress(PermissionError):
            fcntl.fcntl(self.source, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._lost = 0
        self._open()
        logfiles.prune(log, kept)

    def _open(self) -> None:
        # Not O_APPEND, which splice refuses; the keeper is the file's only writer.
        self.target = os.open(self.log, os.O_RDWR | os.O_CREAT, 0o640)
        self.size = os.lseek(self.target, 0, os.SEEK_END)

    def move(self) -> bool:
        """Move what the pipe holds, up to `MOVE_BYTES`. False when it held nothing."""
        if self.size >= self.max_bytes:
            self._rotate_at_line_end()
        try:
            moved = os.splice(self.source, self.target, min(MOVE_BYTES, self.max_bytes))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return self._discard()
        if moved == 0:
            return False
        self.size += moved
        if self._lost:
            self._confess()
        if self.size >= self.max_bytes:
            self._rotate_at_line_end()
        return True

    def drain(self) -> None:
        """Move all that is there, at most what the pipe can hold many times over: a stray that
        still writes must not hold us."""
        for _ in range(DRAIN_TRIES):
            if not self.move():
                return

    def end_line(self) -> None:
        """End a line that its writer left unfinished: nothing more comes, or others write now."""
        if not self._at_line_end():
            with suppress(OSError):  # the disk is full
                self.size += os.write(self.target, b"\n")

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)

    def _discard(self) -> bool:
        """The disk is full: a worker must not block on that; its output is dropped and counted."""
        try:
            dropped = len(os.read(self.source, PIPE_BYTES))
        except BlockingIOError:
            return False
        self._lost += dropped
        return dropped > 0

    def _confess(self) -> None:
        note = f"\n[muster] {self._lost} bytes of output were lost before this: the disk was full\n"
        try:
            self.size += os.write(self.target, note.encode())
        except OSError:
            return
        self._lost = 0

    def _at_line_end(self) -> bool:
        return self.size == 0 or os.pread(self.target, 1, self.size - 1) == b"\n"

    def _finish_line(self) -> bool:
        """Move the rest of a line byte by byte, so that a file ends with a line; False when it is
        not written yet. One that is far too long goes over into the next file."""
        for _ in range(LONGEST_LINE):
            if self._at_line_end():
                return True
            try:
                moved = os.splice(self.source, self.target, 1)
            except OSError:
                moved = 0
            if moved == 0:
                return self.size >= 2 * self.max_bytes
            self.size += moved
        return True

    def _rotate_at_line_end(self) -> None:
        if not self._finish_line():
            return
        os.close(self.target)
        logfiles.rotate(self.log, self.kept)
        self._open()
