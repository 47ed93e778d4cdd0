"""Files of a log: rotation, and reading from any place on. In a temporary folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle.agent import logfiles
from lifecycle.agent.logfiles import LogReader, numbered, place_of_bytes, place_of_tail, rotated
from lifecycle.agent.output import LogPump
from lifecycle.logs.lines import Missed, Piece, Place, last_lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdout.log"


def write(path: Path, *numbers: int) -> None:
    with path.open("a") as file:
        file.writelines(f"line {number}\n" for number in numbers)


def read(log: Path, place: Place) -> list[str]:
    reader = LogReader(log, place)
    found = last_lines(iter(reader.read, None), 10**6, start=place)
    reader.close()
    return [line.text for line in found.lines]


def lines(*numbers: int) -> list[str]:
    return [f"line {number}" for number in numbers]


def test_a_file_gets_its_number_once_and_the_oldest_go(log: Path) -> None:
    for number in range(5):
        write(log, number)
        logfiles.rotate(log, kept=3)
    write(log, 5)
    assert rotated(log) == [4, 5]
    assert numbered(log, 5).read_text() == "line 4\n"


def test_a_rotation_that_was_killed_is_mended_by_the_next(log: Path) -> None:
    for number in range(1, 9):
        write(numbered(log, number), number)
    logfiles.rotate(log, kept=3)  # the written file is not there: removed by hand, or killed
    assert rotated(log) == [7, 8]


def test_a_tail_over_files(log: Path) -> None:
    write(numbered(log, 8), 1, 2, 3)
    write(numbered(log, 9), 4)
    write(log, 5, 6)
    for count, expected in [
        (1, [6]),
        (2, [5, 6]),
        (3, [4, 5, 6]),
        (5, [2, 3, 4, 5, 6]),
        (9, range(1, 7)),
    ]:
        place, whole = place_of_tail(log, count)
        assert whole
        assert read(log, place) == lines(*expected)
    assert place_of_tail(log, 0) == (Place(10, 14), True)


def test_a_tail_ends_with_the_line_that_is_being_written(log: Path) -> None:
    write(log, 1, 2)
    with log.open("a") as file:
        file.write("line 3")
    assert read(log, place_of_tail(log, 2)[0]) == lines(2, 3)


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    log = tmp_path / "nobody" / "stdout.log"
    assert place_of_tail(log, 5) == (Place(1, 0), True)
    assert place_of_bytes(log, None) == (Place(1, 0), True)
    assert LogReader(log, Place(1, 0)).read() is None


def test_a_tail_is_not_looked_for_in_gigabytes(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log, *range(50_000))
    monkeypatch.setattr(logfiles, "TAIL_BYTES", 100_000)
    place, whole = place_of_tail(log, 40_000)
    assert not whole
    found = read(log, place)
    assert found[-1] == "line 49999"
    assert 5_000 < len(found) < 20_000
    assert found == lines(*range(50_000 - len(found), 50_000))


def test_a_filter_looks_at_files_written_to_since(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(numbered(log, 1), 1)
    write(numbered(log, 2), 2)
    write(log, 3)
    os.utime(numbered(log, 1), (1000, 1000))
    assert place_of_bytes(log, 2000.0) == (Place(2, 0), True)
    assert place_of_bytes(log, None) == (Place(1, 0), True)
    monkeypatch.setattr(logfiles, "FILTER_BYTES", 10)
    assert place_of_bytes(log, None) == (Place(2, 7), False)


def test_following_over_a_rotation(log: Path) -> None:
    write(log, 1)
    reader = LogReader(log, Place(1, 0))
    assert reader.read() == Piece(Place(1, 0), b"line 1\n")
    assert reader.read() is None
    write(log, 2)
    logfiles.rotate(log, kept=5)
    write(log, 3)
    assert reader.read() == Piece(Place(1, 7), b"line 2\n")
    assert reader.read() == Piece(Place(2, 0), b"line 3\n")
    logfiles.rotate(log, kept=5)
    assert reader.read() is None  # the next file is not there yet
    write(log, 4)
    assert reader.read() == Piece(Place(3, 0), b"line 4\n")
    reader.close()


def test_a_slow_reader_is_told_what_it_missed(log: Path) -> None:
    write(log, 0)
    reader = LogReader(log, Place(1, 0))
    reader.read()
    for number in range(1, 6):
        logfiles.rotate(log, kept=3)
        write(log, number)
    assert reader.read() == Missed(Place(4, 0), 2)
    assert reader.read() == Piece(Place(4, 0), b"line 3\n")
    reader.close()


@pytest.mark.parametrize("place", [Place(1, 999), Place(7, 3)])
def test_a_place_in_another_log_begins_anew(log: Path, place: Place) -> None:
    write(log, 1)
    reader = LogReader(log, place)
    assert isinstance(reader.read(), Missed)
    assert reader.read() == Piece(Place(1, 0), b"line 1\n")
    reader.close()


def test_a_place_in_a_removed_file_goes_on_with_the_oldest(log: Path) -> None:
    write(numbered(log, 4), 4)
    write(log, 5)
    reader = LogReader(log, Place(2, 100))
    assert reader.read() == Missed(Place(4, 0), 2)
    reader.close()


# --- the pump ----------------------------------------------------------------------------------


@pytest.fixture
def fifo(tmp_path: Path) -> tuple[Path, int]:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path, os.open(path, os.O_RDWR | os.O_NONBLOCK)


def kept(log: Path) -> list[Path]:
    return [*(numbered(log, number) for number in rotated(log)), log]


def test_files_end_with_a_line_and_have_about_the_size(log: Path, fifo: tuple[Path, int]) -> None:
    pump = LogPump(fifo[0], log, max_bytes=10_000, kept=50)
    text = "".join(f"line {number} {'x' * (number % 200)}\n" for number in range(2000)).encode()
    for begin in range(0, len(text), 7777):
        os.write(fifo[1], text[begin : begin + 7777])
        pump.drain()
    files = kept(log)
    assert b"".join(file.read_bytes() for file in files) == text
    for file in files[:-1]:
        assert file.read_bytes().endswith(b"\n")
        assert 10_000 <= file.stat().st_size < 30_000


def test_a_line_without_an_end_goes_over_into_the_next_file(
    log: Path, fifo: tuple[Path, int]
) -> None:
    pump = LogPump(fifo[0], log, max_bytes=1000, kept=50)
    for _ in range(30):
        os.write(fifo[1], b"x" * 100)
        pump.drain()
    os.write(fifo[1], b"\n")
    pump.drain()
    assert len(kept(log)) > 1
    assert read(log, Place(1, 0)) == ["x" * 3000]


def test_a_lower_retention_holds_from_the_next_start(log: Path, fifo: tuple[Path, int]) -> None:
    for number in range(1, 9):
        write(numbered(log, number), number)
    LogPump(fifo[0], log, max_bytes=1000, kept=3)
    assert rotated(log) == [7, 8]


def test_an_unfinished_line_is_ended_once(log: Path, fifo: tuple[Path, int]) -> None:
    pump = LogPump(fifo[0], log, max_bytes=1000, kept=3)
    pump.end_line()
    os.write(fifo[1], b"half")
    pump.drain()
    pump.end_line()
    pump.end_line()
    assert log.read_bytes() == b"half\n"


def test_a_log_removed_by_hand_is_begun_anew(log: Path, fifo: tuple[Path, int]) -> None:
    pump = LogPump(fifo[0], log, max_bytes=100, kept=3)
    os.write(fifo[1], b"x" * 90 + b"\n")
    pump.drain()
    log.unlink()
    os.write(fifo[1], b"y" * 90 + b"\n")
    pump.drain()
    assert log.read_bytes() == b"y" * 90 + b"\n"
