"""Lines of a process's output: cut, shown, given time and level, chosen [L12]."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.logs.lines import (
    CUT_MARK,
    KEPT_BYTES,
    LONGEST_LINE,
    LogLine,
    Missed,
    Piece,
    Place,
    Splitter,
    last_lines,
    read_all,
    shown,
)
from lifecycle.types import Level

START = Place(1, 0)


def record(level: str, event: str, second: int = 0, **more: Any) -> str:
    return json.dumps(
        {"time": f"2026-01-01T00:00:{second:02}Z", "level": level, "event": event, **more}
    )


def read(*lines: str) -> list[LogLine]:
    return list(read_all([Piece(START, "".join(f"{line}\n" for line in lines).encode())]))


def levels(*lines: str) -> list[str]:
    return [line.level.value for line in read(*lines)]


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b""))), st.data())
def test_however_it_is_cut_the_lines_and_their_places_are_the_same(
    lines: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    splitter = Splitter()
    found: list[tuple[bytes, Place]] = []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += splitter.feed(Piece(Place(7, begin), whole[begin:end]))
    assert [line for line, _ in found] == lines
    ends = [place.offset for _, place in found]
    assert [whole[begin:end] for begin, end in zip([0, *ends], ends, strict=False)] == [
        line + b"\n" for line in lines
    ]
    assert splitter.rest() is None


def test_a_line_goes_over_from_one_file_into_the_next() -> None:
    pieces = [Piece(Place(3, 10), b"one\ntw"), Piece(Place(4, 0), b"o\nthree")]
    found = list(read_all(pieces))
    assert [line.text for line in found] == ["one", "two", "three"]
    assert [str(line.end) for line in found] == ["3:14", "4:2", "4:2"]


def test_what_is_missing_is_not_glued_together() -> None:
    pieces: list[Piece | Missed] = [
        Piece(Place(1, 0), b"be"),
        Missed(Place(9, 0), 8),
        Piece(Place(9, 0), b"end\n"),
    ]
    assert [line.text for line in read_all(pieces)] == ["end"]


def test_a_long_line_is_cut_with_a_mark_and_held_in_little_memory() -> None:
    splitter = Splitter()
    for number in range(100):
        assert list(splitter.feed(Piece(Place(1, number * 65536), b"x" * 65536))) == []
    assert len(splitter._begun) == LONGEST_LINE + 1
    (line, end), (after, _) = splitter.feed(Piece(Place(1, 6_553_600), b"\nnext\n"))
    assert shown(line) == "x" * LONGEST_LINE + CUT_MARK
    assert end.offset == 6_553_601
    assert after == b"next"


def test_a_cut_does_not_break_a_character() -> None:
    assert shown("é".encode() * LONGEST_LINE).endswith("é" + CUT_MARK)
    assert shown(b"a" + "é".encode() * LONGEST_LINE).endswith("é" + CUT_MARK)


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"\xff\x00ok", "\\xff\x00ok"), (b"windows\r", "windows"), ("é".encode(), "é")],
)
def test_any_bytes_are_shown(raw: bytes, text: str) -> None:
    assert shown(raw) == text


@given(st.binary(max_size=300))
def test_nothing_that_is_printed_is_an_error(raw: bytes) -> None:
    for line in read_all([Piece(START, raw), Piece(START, b"{" + raw + b"}\n")]):
        json.dumps(line.text).encode()


@pytest.mark.parametrize(
    "line",
    ["{}", "{bad", '{"level": 3}', '{"level": "loud", "time": 7}', "[1]", "", '{"time":"x"}'],
)
def test_a_line_without_level_is_information(line: str) -> None:
    assert levels(line) == ["info"]


def test_levels_by_their_many_names() -> None:
    names = ["DEBUG", "info", "warn", "WARNING", "error", "exception", "critical", "fatal"]
    found = levels(*(record(name, "x") for name in names))
    assert found == ["debug", "info", "warning", "warning", *["error"] * 4]


def test_a_raw_line_has_the_time_of_the_line_before() -> None:
    first, second, third, fourth = read(
        "before", record("info", "a", 1), "raw", record("info", "b", 2)
    )
    assert first.time is None
    assert second.time == third.time == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert fourth.time == datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)


TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "x.py", line 1, in <module>',
    "    go()",
    "ValueError: no",
]
CHAINED = ["", "During handling of the above exception, another exception occurred:", ""]


def test_a_traceback_belongs_to_the_record_that_it_follows() -> None:
    assert levels(record("warning", "w"), *TRACEBACK, "print") == ["warning"] * 5 + ["info"]
    assert levels(record("error", "e"), *TRACEBACK, record("info", "i")) == ["error"] * 5 + ["info"]


def test_a_traceback_that_follows_nothing_bad_is_an_error() -> None:
    assert levels(*TRACEBACK) == ["error"] * 4
    assert levels(record("info", "i"), *TRACEBACK, "print") == ["info", *["error"] * 4, "info"]


def test_a_chained_traceback_is_one() -> None:
    found = levels(record("warning", "w"), *TRACEBACK, *CHAINED, *TRACEBACK, "print")
    assert found == ["warning"] * (1 + 4 + 3 + 4) + ["info"]


def test_an_exception_group_is_a_traceback() -> None:
    group = [
        "  + Exception Group Traceback (most recent call last):",
        "  |   File",
        "  | ExceptionGroup",
    ]
    assert levels(*group) == ["error"] * 3


def chosen(*lines: str, count: int = 100, **filters: Any) -> list[str]:
    piece = Piece(START, "".join(f"{line}\n" for line in lines).encode())
    return [line.text for line in last_lines([piece], count, start=START, **filters).lines]


def test_filters() -> None:
    bad, good = record("error", "bad", 5), record("info", "good", 6)
    old = record("error", "old", 1)
    since = datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    lines = ["first", old, "of old", bad, *TRACEBACK, good, "last"]
    assert chosen(*lines, count=2) == [good, "last"]
    assert chosen(*lines, level=Level.ERROR) == [old, bad, *TRACEBACK]
    assert chosen(*lines, level=Level.ERROR, count=1) == [TRACEBACK[-1]]
    assert chosen(*lines, since=since) == [bad, *TRACEBACK, good, "last"]
    assert chosen(*lines, since=since, level=Level.ERROR) == [bad, *TRACEBACK]


def test_lines_that_nothing_gives_a_time_to_are_shown() -> None:
    late = datetime(2100, 1, 1, tzinfo=UTC)
    assert chosen("one", "two", since=late) == ["one", "two"]
    assert chosen("one", record("info", "old"), since=late) == []


def test_memory_is_bounded_however_long_the_lines_are() -> None:
    def flood() -> Iterator[Piece]:
        for number in range(400):
            yield Piece(Place(1, number * 65537), b"x" * 65536 + b"\n")

    found = last_lines(flood(), 10_000, start=START)
    assert sum(len(line.text) for line in found.lines) <= KEPT_BYTES
    assert found.truncated
    assert found.end == Place(1, 400 * 65537)


def test_an_unfinished_line_is_shown_and_read_again_by_who_follows() -> None:
    found = last_lines([Piece(START, b"one\ntw")], 10, start=START)
    assert [line.text for line in found.lines] == ["one", "tw"]
    assert found.end == Place(1, 4)
    assert last_lines([], 10, start=Place(5, 6)).end == Place(5, 6)


@pytest.mark.parametrize("text", ["", "1", "a:b", "1:-1", "1:2:3", "1.5:2", "9" * 30 + ":1", "٣:١"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        Place.parse(text)


def test_a_place_reads_back() -> None:
    assert Place.parse(str(Place(41, 1024))) == Place(41, 1024)
