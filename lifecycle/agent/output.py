"""Worker output: from FIFOs into rotated log files [L12].

A worker writes into FIFOs that it holds open for reading too, so a write never fails because the
keeper died: what it wrote stays in the pipe until a keeper moves it on. `os.splice` moves bytes
from pipe to file inside the kernel: a keeper killed at any instruction neither loses nor repeats
one. Two keepers write one log while a worker is replaced: they take turns.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        self._turns = os.open(log.with_suffix(".turns"), os.O_RDWR | os.O_CREAT, 0o600)
        self.target = -1
        with self._turn():
            self._open()
            logfiles.prune(log, kept)

    def _open(self) -> None:
        # Not O_APPEND, which splice refuses: whose turn it is seeks the end.
        target = os.open(self.log, os.O_RDWR | os.O_CREAT, 0o640)
        if self.target != -1:
            os.close(self.target)
        self.target = target
        self.size = os.lseek(self.target, 0, os.SEEK_END)

    def move(self) -> bool:
        """Move what the pipe holds, up to `MOVE_BYTES`. False when it held nothing."""
        with self._turn():
            try:
                self._find_end()
                if self._lost:
                    self._confess()
                self._rotate_when_full()
                moved = os.splice(self.source, self.target, min(MOVE_BYTES, self.max_bytes))
                self.size += moved
                self._rotate_when_full()
            except BlockingIOError:
                return False
            except OSError:
                return self._discard()
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
        if not logfiles.is_written(self.log, self.target):
            self._open()
        end = os.lseek(self.target, 0, os.SEEK_END)
        others, self.size = end != self.size, end
        if others and not self._at_line_end():
            self.size += os.write(self.target, b"\n")

    def drain(self) -> None:
        """Move all that is there, at most what the pipe can hold many times over: a stray that
        still writes must not hold us."""
        for _ in range(DRAIN_TRIES):
            if not self.move():
                return

    def end_line(self) -> None:
        """End a line that its writer left unfinished; nothing more of it comes."""
        with self._turn(), suppress(OSError):  # the disk is full
            self._find_end()
            if not self._at_line_end():
                self.size += os.write(self.target, b"\n")

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

    def _at_line_end(self) -> bool:
        return self.size == 0 or os.pread(self.target, 1, self.size - 1) == b"\n"

    def _rotate_when_full(self) -> None:
        """At a line's end, or when a line goes on far too long: then it goes over into the next
        file. Raises `OSError`."""
        if self.size >= self.max_bytes and (self._finish_line() or self.size >= 2 * self.max_bytes):
            logfiles.rotate(self.log, self.kept)
            self._open()

    def _finish_line(self) -> bool:
        """Move the rest of a line byte by byte. False when it is not written yet, or very long."""
        for _ in range(LONGEST_LINE):
            if self._at_line_end():
                return True
            try:
                moved = os.splice(self.source, self.target, 1)
            except BlockingIOError:
                return False
            if moved == 0:
                return False
            self.size += moved
        return False
