"""Bytes of a process's output into lines with time and level. Pure.

A process prints what it likes; ours print one JSON object a line, with `time` and `level`. A raw
line has the time of the line before it and counts as information; a traceback belongs to the record
that it follows. Nothing that a process prints is an error here.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from lifecycle.types import Level

LONGEST_LINE = 64 * 1024
CUT_MARK = " … [line cut]"
KEPT_BYTES = 16 * 1024 * 1024  # of lines held at once, however many were asked for

LEVELS = {
    **dict.fromkeys(("trace", "debug", "notset"), Level.DEBUG),
    **dict.fromkeys(("info", "notice", "success"), Level.INFO),
    **dict.fromkeys(("warn", "warning"), Level.WARNING),
    **dict.fromkeys(
        ("error", "exception", "critical", "fatal", "alert", "emergency", "panic"), Level.ERROR
    ),
}
SEVERITY = {level: number for number, level in enumerate(Level)}

TRACEBACK = re.compile(r"\s*(?:[+|]\s*)*(?:Exception Group )?Traceback \(most recent call last\):")
CHAINED = re.compile(r"(?:During handling of the above|The above) exception")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a log: the number of a file, and bytes from its start."""

    file: int
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises `ValueError` when the text is no place."""
        found = re.fullmatch(r"(\d{1,12}):(\d{1,15})", text, re.ASCII)
        if found is None:
            raise ValueError(f"'{text[:40]}' is no place in a log")
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a log, and where they begin."""

    place: Place
    data: bytes


@dataclass(frozen=True, slots=True)
class Missed:
    """What was there is gone before it could be read; reading goes on at `place`."""

    place: Place
    files: int


@dataclass(frozen=True, slots=True)
class LogLine:
    text: str
    time: datetime | None  # None: nothing before it had one
    level: Level
    end: Place  # right behind it: from here on one reads what follows


class Splitter:
    """Cuts pieces into lines; a line may be spread over pieces and over files."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, piece: Piece) -> Iterator[tuple[bytes, Place]]:
        """The lines that this piece completes, each with the place behind it."""
        start, data = 0, piece.data
        while (newline := data.find(b"\n", start)) >= 0:
            self._add(data, start, newline)
            yield self._take(), Place(piece.place.file, piece.place.offset + newline + 1)
            start = newline + 1
        self._add(data, start, len(data))

    def rest(self) -> bytes | None:
        """What is printed of a line that is not complete yet."""
        return self._take() if self._begun else None

    def forget(self) -> None:
        self._begun.clear()

    def _add(self, data: bytes, start: int, end: int) -> None:
        room = LONGEST_LINE + 1 - len(self._begun)
        self._begun += data[start : min(end, start + room)]

    def _take(self) -> bytes:
        line = bytes(self._begun)
        self._begun.clear()
        return line


def shown(line: bytes) -> str:
    """A line as text: invalid UTF-8 is escaped, what is over 64 KB is cut, with a mark."""
    if len(line) <= LONGEST_LINE:
        return line.removesuffix(b"\r").decode("utf-8", "backslashreplace")
    end = LONGEST_LINE
    while end > LONGEST_LINE - 4 and line[end] & 0xC0 == 0x80:  # not in the middle of a character
        end -= 1
    return line[:end].decode("utf-8", "backslashreplace") + CUT_MARK


class Annotator:
    """Gives each line its time and level, in order."""

    def __init__(self) -> None:
        self._time: datetime | None = None
        self._record: Level | None = None  # of the record that the next line would follow
        self._traceback: Level | None = None
        self._at_its_end = False

    def read(self, text: str, end: Place) -> LogLine:
        record = _record(text)
        if record is not None:
            self._time = record[0] or self._time
            self._record, self._traceback = record[1], None
            return LogLine(text, self._time, record[1], end)
        return LogLine(text, self._time, self._raw(text), end)

    def _raw(self, text: str) -> Level:
        if TRACEBACK.match(text):
            if self._traceback is None:
                self._traceback = _of_traceback(self._record)
            self._at_its_end = False
        elif self._traceback is not None:
            if not self._at_its_end:  # frames are indented; then comes the error itself
                self._at_its_end = bool(text) and not text[0].isspace()
            elif text.strip() and not text[0].isspace() and not CHAINED.match(text):
                self._traceback = None
        if self._traceback is None:
            self._record = None
        return self._traceback or Level.INFO


def _of_traceback(record: Level | None) -> Level:
    """A traceback after a warning or an error belongs to it; any other is an error by itself."""
    if record is not None and SEVERITY[record] >= SEVERITY[Level.WARNING]:
        return record
    return Level.ERROR


def _record(text: str) -> tuple[datetime | None, Level] | None:
    """Time and level of a line that is one JSON object; None for any other line."""
    if not text.startswith("{"):
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    level = record.get("level", record.get("levelname"))
    known = LEVELS.get(level.lower(), Level.INFO) if isinstance(level, str) else Level.INFO
    return _time(record.get("time", record.get("timestamp"))), known


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What was found in a log, oldest first."""

    lines: tuple[LogLine, ...]
    end: Place
    truncated: bool  # more lines than could be held would have fitted


def last_lines(
    pieces: Iterable[Piece | Missed],
    count: int,
    *,
    start: Place,
    level: Level | None = None,
    since: datetime | None = None,
) -> Excerpt:
    """The last `count` lines that are of `level` or above and not older than `since`.

    A line that nothing gives a time to counts as new unless the next record is older.
    """
    found: deque[LogLine] = deque()
    held, end, truncated = 0, start, False
    for line in read_all(pieces):
        end = line.end
        if since and line.time and line.time < since:
            found.clear()
            held = 0
            continue
        if level and SEVERITY[line.level] < SEVERITY[level]:
            continue
        found.append(line)
        held += len(line.text)
        while len(found) > count or (held > KEPT_BYTES and len(found) > 1):
            truncated = truncated or len(found) <= count
            held -= len(found.popleft().text)
    return Excerpt(tuple(found), end, truncated)


def read_all(pieces: Iterable[Piece | Missed]) -> Iterator[LogLine]:
    """Every line, the last one also when it is not complete."""
    splitter, annotator = Splitter(), Annotator()
    end = Place(1, 0)
    for piece in pieces:
        if isinstance(piece, Missed):
            splitter.forget()
            continue
        for line, end in splitter.feed(piece):
            yield annotator.read(shown(line), end)
    rest = splitter.rest()
    if rest is not None:
        yield annotator.read(shown(rest), end)
