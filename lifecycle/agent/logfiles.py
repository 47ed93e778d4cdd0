"""The files of one log, and reading them from any place on, over rotations [L12].

`stdout.log` is written now; `stdout.log.000041` was before it. A file gets its number when it is
rotated, by one rename, and keeps it: so a number and an offset name a place for as long as the file
exists, and `cat stdout.log.* stdout.log` is the log in order. The files are one stream of bytes: a
line may go over from one into the next.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lifecycle.logs.lines import Missed, Piece, Place

PIECE_BYTES = 64 * 1024
# A tail is looked for in so many bytes, and what a filter may look at is at most this.
TAIL_BYTES = 16 * 1024 * 1024
FILTER_BYTES = 64 * 1024 * 1024


def numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number:06d}")


def rotated(log: Path) -> list[int]:
    """The numbers of the rotated files, oldest first."""
    prefix = f"{log.name}."
    try:
        names = os.listdir(log.parent)  # noqa: PTH208 - names are all that is needed, often
    except FileNotFoundError:
        return []
    endings = (name[len(prefix) :] for name in names if name.startswith(prefix))
    return sorted(int(ending) for ending in endings if ending.isdigit())


def rotate(log: Path, kept: int) -> None:
    """Give the written file its number, and let go of the oldest; `kept` counts the next one too.

    Killed at any instruction, it leaves nothing to mend: what is too old goes the next time.
    """
    with suppress(FileNotFoundError):  # somebody removed it by hand
        log.rename(numbered(log, next_number(log)))
    prune(log, kept)


def prune(log: Path, kept: int) -> None:
    for number in rotated(log)[: -(kept - 1) or None]:
        numbered(log, number).unlink(missing_ok=True)


def next_number(log: Path) -> int:
    """The number of the file that is written now."""
    return max(rotated(log), default=0) + 1


def open_written(log: Path) -> tuple[int, int] | None:
    """Number and descriptor of the file that is written now, or None when there is none.

    The number is sure: while the file has its name, nothing was rotated after it.
    """
    while True:
        try:
            descriptor = os.open(log, os.O_RDONLY)
        except FileNotFoundError:
            return None
        number = next_number(log)
        if is_written(log, descriptor):
            return number, descriptor
        os.close(descriptor)


def is_written(log: Path, descriptor: int) -> bool:
    """Whether the open file still is the one that is written."""
    ours = os.fstat(descriptor)
    try:
        named = os.stat(log)  # noqa: PTH116 - beside fstat, at each poll
    except FileNotFoundError:
        return False
    return (named.st_ino, named.st_dev) == (ours.st_ino, ours.st_dev)


class LogReader:
    """Reads a log from a place on. Holds one file open at most, and never waits."""

    def __init__(self, log: Path, place: Place) -> None:
        self.log = log
        self.place = place
        self._file: int | None = None

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self, size: int = PIECE_BYTES) -> Piece | Missed | None:
        """What follows, or None when there is nothing more yet."""
        if self._file is None:
            missed = self._open()
            if missed or self._file is None:
                return missed
        # Asked first: a file that was rotated before we read its end gets no more.
        complete = not is_written(self.log, self._file)
        data = os.pread(self._file, size, self.place.offset)
        if data:
            piece = Piece(self.place, data)
            self.place = Place(self.place.file, self.place.offset + len(data))
            return piece
        if not complete:
            return None
        self.close()
        self.place = Place(self.place.file + 1, 0)
        return self.read(size)

    def _open(self) -> Missed | None:
        """Open the file of our place, or move to where the log goes on."""
        while True:
            self._file = self._file_of(self.place.file)
            if self._file is not None:
                break
            numbers, upcoming = rotated(self.log), next_number(self.log)
            older = [number for number in numbers if number > self.place.file]
            if older:
                return self._skip_to(older[0])
            if self.place.file > upcoming:  # the log was removed, and began anew
                return self._skip_to(upcoming)
            if self.place.file == upcoming or self.place.file in numbers:
                if not self.log.exists() or self.place.file in numbers:
                    return None
                continue
            return self._skip_to(upcoming)
        if os.fstat(self._file).st_size < self.place.offset:  # another log of the same number
            self.close()
            return self._skip_to(self.place.file)
        return None

    def _skip_to(self, number: int) -> Missed:
        files = max(1, number - self.place.file)
        self.place = Place(number, 0)
        return Missed(self.place, files)

    def _file_of(self, number: int) -> int | None:
        with suppress(FileNotFoundError):
            return os.open(numbered(self.log, number), os.O_RDONLY)
        written = open_written(self.log)
        if written is None:
            return None
        if written[0] == number:
            return written[1]
        os.close(written[1])
        return None


# --- where to begin ----------------------------------------------------------------------------


def place_of_tail(log: Path, lines: int) -> tuple[Place, bool]:
    """Where the last `lines` lines begin, found from the end; False: fewer, there are too many
    bytes in them."""
    place = Place(next_number(log), 0)
    wanted: int | None = None
    budget = TAIL_BYTES
    for number, descriptor in _newest_first(log):
        size = os.fstat(descriptor).st_size
        position = size
        while position > 0:
            step = min(PIECE_BYTES, position)
            position -= step
            block = os.pread(descriptor, step, position)
            if wanted is None:  # a newline at the very end begins no further line
                wanted = lines + block.endswith(b"\n")
            found = block.count(b"\n")
            if found >= wanted:
                end = len(block)
                for _ in range(wanted):
                    end = block.rindex(b"\n", 0, end)
                return Place(number, position + end + 1), True
            wanted -= found
            budget -= step
            if budget <= 0:
                return _behind_newline(number, descriptor, position), False
        place = Place(number, 0)
    return place, True


def place_of_bytes(log: Path, since: float | None) -> tuple[Place, bool]:
    """Where the newest files begin that a filter looks at: written to after `since` (seconds of
    the epoch). False: what it may look at ends before that."""
    place = Place(next_number(log), 0)
    budget = FILTER_BYTES
    for number, descriptor in _newest_first(log):
        status = os.fstat(descriptor)
        if since is not None and status.st_mtime < since:
            break
        if status.st_size > budget:
            return _behind_newline(number, descriptor, status.st_size - budget), False
        budget -= status.st_size
        place = Place(number, 0)
    return place, True


def _newest_first(log: Path) -> Iterator[tuple[int, int]]:
    written = open_written(log)
    numbers = [n for n in reversed(rotated(log)) if written is None or n < written[0]]
    opened = [written] if written else []
    try:
        if opened:
            yield opened[0]
        for number in numbers:
            try:
                descriptor = os.open(numbered(log, number), os.O_RDONLY)
            except FileNotFoundError:
                return
            opened.append((number, descriptor))
            yield number, descriptor
    finally:
        for _number, descriptor in opened:
            os.close(descriptor)


def _behind_newline(number: int, descriptor: int, position: int) -> Place:
    """The first beginning of a line at or after a position, or the position in a very long line."""
    block = os.pread(descriptor, PIECE_BYTES, position)
    return Place(number, position + block.find(b"\n") + 1)
