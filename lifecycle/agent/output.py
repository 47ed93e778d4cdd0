"""Worker output: from FIFOs into rotated log files [L12].

A worker writes into FIFOs that it holds open for reading too, so a write never fails because the
keeper died: what it wrote stays in the pipe until a keeper moves it on. `os.splice` moves bytes
from pipe to file inside the kernel: a keeper killed at any instruction neither loses nor repeats
one. Two keepers write one log while a worker is replaced: they take turns.

A full disk must not block a worker: its output is dropped, and counted in the file of the turns,
before it is dropped and in place that was taken while there was room. Whoever writes to the log
next, or the agent, says in it what was lost.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lifecycle.agent import logfiles
from lifecycle.logs.lines import LONGEST_LINE

PIPE_BYTES = 1024 * 1024
DRAIN_TRIES = 10_000
COUNT_BYTES = 8
# At most so much in one go: a file is larger than it should be by this and one line at most.
MOVE_BYTES = 256 * 1024


class LogEnd:
    """The written end of one log: whose turn it is, and what was lost."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._turns = os.open(turns_of(log), os.O_RDWR | os.O_CREAT, 0o600)
        self._uncounted = 0  # lost while not even the count could be written
        self.target = -1
        with self._turn():
            self._open()
            self._make_room_for_count()

    def _open(self) -> None:
        # Not O_APPEND, which splice refuses: whose turn it is seeks the end.
        target = os.open(self.log, os.O_RDWR | os.O_CREAT, 0o640)
        if self.target != -1:
            os.close(self.target)
        self.target = target
        self.size = os.lseek(self.target, 0, os.SEEK_END)

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

    def end_line(self) -> None:
        """End a line that its writer left unfinished; nothing more of it comes."""
        with self._turn(), suppress(OSError):  # the disk is full
            self._find_end()
            self._confess()
            if not self._at_line_end():
                self.size += os.write(self.target, b"\n")

    def close(self) -> None:
        for descriptor in (self.target, self._turns):
            os.close(descriptor)

    # --- what was lost ---

    def _make_room_for_count(self) -> None:
        with suppress(OSError):  # the disk is full already: tried again when there is something
            if os.fstat(self._turns).st_size < COUNT_BYTES:
                os.pwrite(self._turns, bytes(COUNT_BYTES), 0)

    def _count_lost(self, dropped: int) -> None:
        """Overwrites bytes that the file has: this needs no room on the disk."""
        lost = read_count(self._turns) + self._uncounted + dropped
        try:
            os.pwrite(self._turns, lost.to_bytes(COUNT_BYTES, "little"), 0)
            self._uncounted = 0
        except OSError:
            self._uncounted += dropped

    def _confess(self) -> None:
        """Say it where it happened: before anything that came later. Raises `OSError`."""
        lost = read_count(self._turns) + self._uncounted
        if not lost:
            return
        note = f"\n[muster] {lost} bytes of output were lost here: the disk was full\n"
        written = os.write(self.target, note.encode())
        self.size += written
        if written == len(note):
            self._uncounted = 0
            os.pwrite(self._turns, bytes(COUNT_BYTES), 0)

    def _at_line_end(self) -> bool:
        return self.size == 0 or os.pread(self.target, 1, self.size - 1) == b"\n"


class LogPump(LogEnd):
    """Moves one FIFO into one log, and rotates it by size at a line's end."""

    def __init__(self, fifo: Path, log: Path, max_bytes: int, kept: int) -> None:
        self.source = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        # Beyond a number of pipes the kernel leaves them small for all but root (pipe(7)).
        with suppress(PermissionError):
            fcntl.fcntl(self.source, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        super().__init__(log)
        self.max_bytes = max_bytes
        self.kept = kept
        with self._turn():
            logfiles.prune(log, kept)

    def move(self) -> bool:
        """Move what the pipe holds, up to `MOVE_BYTES`. False when it held nothing."""
        with self._turn():
            try:
                self._find_end()
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

    def drain(self) -> None:
        """Move all that is there, at most what the pipe can hold many times over: a stray that
        still writes must not hold us."""
        for _ in range(DRAIN_TRIES):
            if not self.move():
                return

    def close(self) -> None:
        os.close(self.source)
        super().close()

    def _discard(self) -> bool:
        """The disk is full, or fails: drop what is there. Counted first: killed in between, we say
        that we lost what we did not, and never the other way round."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self.source, termios.FIONREAD, waiting)
        if not waiting[0]:
            return False
        self._count_lost(waiting[0])
        os.read(self.source, waiting[0])
        return True

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


def turns_of(log: Path) -> Path:
    return log.with_suffix(".turns")


def read_count(descriptor: int) -> int:
    return int.from_bytes(os.pread(descriptor, COUNT_BYTES, 0), "little")


def lost_of(log: Path) -> int:
    """Bytes that were lost and of which the log does not say so yet."""
    try:
        descriptor = os.open(turns_of(log), os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        return read_count(descriptor)
    finally:
        os.close(descriptor)
