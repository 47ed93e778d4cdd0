"""Logs of workers under floods, rotation, killed keepers, restarts: no hole, no repeat [L12]."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from lifecycle.agent.logfiles import rotated
from lifecycle.backends.base import LogSource, LogStart
from lifecycle.errors import BackendUnavailable
from lifecycle.logs.lines import Missed, Place, Splitter
from lifecycle.types import Instance
from tests.host import Host, eventually, running_host, spec
from tests.threads import alongside

SMALL = 20_000


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as made:
        yield made


def log_of(host: Host) -> Path:
    return host.home / "logs" / "workers" / "worker-1" / "stdout.log"


class Follower:
    """Follows a log in a thread with an event loop, as the web does."""

    def __init__(self, source: LogSource) -> None:
        self.source = source
        self.lines: list[str] = []
        self.missed = 0
        self.place = source.start
        self.is_live = False
        self.loop = asyncio.new_event_loop()
        self.task = self.loop.create_task(self._follow())

    def run(self) -> None:
        with suppress(asyncio.CancelledError, BackendUnavailable):
            self.loop.run_until_complete(self.task)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def _follow(self) -> None:
        splitter = Splitter()
        async for found in self.source.follow():
            if found is None:
                self.is_live = True
            elif isinstance(found, Missed):
                self.missed += found.files
            else:
                for line, self.place in splitter.feed(found):
                    self.lines.append(line.decode())

    def stop(self) -> None:
        with suppress(RuntimeError):  # it has ended by itself
            self.loop.call_soon_threadsafe(self.task.cancel)


@contextmanager
def following(
    host: Host, *, tail: int | None = 10, after: Place | None = None
) -> Iterator[Follower]:
    source = host.backend.follow_log("worker-1", "stdout", LogStart(after=after, tail=tail))
    follower = Follower(source)
    with alongside(follower.run, end=follower.stop):
        yield follower


def flood(host: Host, generation: int = 1, *, files: int = 50) -> Instance:
    wanted = spec("flood", generation=generation, log_max_bytes=SMALL, log_files=files)
    return host.backend.start(wanted).instance


def numbered(first: int, count: int) -> list[str]:
    return [f"line {number}" for number in range(first, first + count)]


def has(follower: Follower, count: int) -> bool:
    return len(follower.lines) >= count


def replaced(host: Host, keeper: int) -> bool:
    return host.keeper_pid("worker-1") != keeper


def in_order(lines: list[str]) -> bool:
    return lines == numbered(int(lines[0].split()[1]), len(lines))


def test_rotation_by_size_with_retention(host: Host) -> None:
    flood(host, files=3)
    eventually(lambda: rotated(log_of(host))[-1:] > [4], "rotations")
    assert len(rotated(log_of(host))) <= 3  # one more for an instant, until the oldest is removed
    lines = host.lines()
    assert in_order(lines)
    assert len(lines) < 3.5 * SMALL / 9


def test_following_over_rotations_has_no_hole_and_no_repeat(host: Host) -> None:
    flood(host)
    eventually(partial(rotated, log_of(host)), "a rotation")
    with following(host, tail=1000) as follower:
        begun = len(rotated(log_of(host)))
        eventually(lambda: len(rotated(log_of(host))) >= begun + 3, "rotations while it follows")
        eventually(partial(has, follower, 6000), "it keeps up")
    assert follower.missed == 0
    assert in_order(follower.lines)


def test_following_over_killed_keepers_and_a_crash(host: Host) -> None:
    """[L10, L12] The follower sees each line once, and then those of the next generation."""
    first = flood(host)
    with following(host, tail=0, after=Place(1, 0)) as follower:
        for _ in range(3):
            keeper = host.keeper_pid("worker-1")
            os.kill(keeper, signal.SIGKILL)
            eventually(partial(replaced, host, keeper), "another keeper")
            eventually(partial(has, follower, len(follower.lines) + 500), "output goes on")
        alive = host.snapshot().alive[0]
        os.kill(alive.process.pid, signal.SIGKILL)
        host.gone(first)
        written = host.lines()
        eventually(partial(has, follower, len(written)), "the last line before the crash")
        assert follower.lines == written == numbered(0, len(written))
        host.backend.acknowledge(first)
        flood(host, generation=2)
        eventually(partial(has, follower, len(written) + 500), "the next generation")
    assert follower.lines[len(written) :] == numbered(0, len(follower.lines) - len(written))


def test_a_follower_comes_back_where_it_was(host: Host) -> None:
    flood(host)
    seen: list[str] = []
    place: Place | None = Place(1, 0)
    for _ in range(4):
        with following(host, after=place) as follower:
            eventually(partial(has, follower, 700), "some lines")
        seen += follower.lines
        place = follower.place
    assert seen == numbered(0, len(seen))


def test_an_agent_that_dies_ends_a_follow_and_the_next_goes_on(host: Host) -> None:
    flood(host)
    with following(host, after=Place(1, 0)) as follower:
        eventually(partial(has, follower, 100), "some lines")
        host.kill_agent()
        eventually(follower.loop.is_closed, "it ends")
    with pytest.raises(BackendUnavailable):
        host.backend.follow_log("worker-1", "stdout", LogStart(tail=1))
    host.start_agent()
    with following(host, after=follower.place) as again:
        eventually(partial(has, again, 100), "more lines")
    lines = follower.lines + again.lines
    assert lines == numbered(0, len(lines))


def test_reading_what_was_printed_goes_on_as_following(host: Host) -> None:
    """The end of a read log is where a follower begins: the backlog and the rest fit."""
    flood(host)
    eventually(lambda: len(host.lines()) > 200, "output")
    source = host.backend.read_log("worker-1", "stdout", LogStart(tail=50))
    pieces = list(source.pieces())
    splitter, read, end = Splitter(), [], source.start
    for piece in pieces:
        assert not isinstance(piece, Missed)
        found = list(splitter.feed(piece))
        read += [line.decode() for line, _ in found]
        end = found[-1][1]
    with following(host, after=end) as follower:
        eventually(partial(has, follower, 100), "more lines")
    assert in_order(read + follower.lines)


def test_who_follows_an_idle_or_unknown_worker_waits(host: Host) -> None:
    with following(host) as follower:
        eventually(lambda: follower.is_live, "it is told that there is nothing yet")
        assert follower.lines == []
        host.start("lines=3")
        eventually(partial(has, follower, 3), "the first lines")
    assert follower.lines == numbered(0, 3)


def test_a_reader_that_stops_reading_costs_nothing_and_is_told_what_it_missed(host: Host) -> None:
    host.backend.start(spec("flood", log_max_bytes=SMALL, log_files=2))
    eventually(host.lines, "output")
    source = host.backend.follow_log("worker-1", "stdout", LogStart(tail=1))
    # It does not read: once its socket is full, the agent waits, and rotation goes over it.
    eventually(lambda: max(rotated(log_of(host)), default=0) > 3, "the log goes on without it")
    with pytest.warns(ResourceWarning):  # its socket was open
        del source
    with following(host, after=Place(1, 0)) as follower:
        eventually(lambda: follower.missed, "it is told")
        eventually(partial(has, follower, 10), "and goes on")
    assert in_order(follower.lines)


@pytest.mark.parametrize(
    ("worker_id", "stream"), [("../../etc", "stdout"), ("worker-1", "stdin"), ("", "stdout")]
)
def test_bad_requests_are_refused(host: Host, worker_id: str, stream: str) -> None:
    with pytest.raises(BackendUnavailable, match="ValueError"):
        host.backend.read_log(worker_id, stream, LogStart(tail=1))
    assert host.backend.agent.call("status")


def test_what_is_printed_before_an_end_at_once_is_kept(host: Host) -> None:
    """The end comes before anybody has looked at the pipes [L12]."""
    for generation in range(1, 21):
        ended = host.start("lines=1", "signal=9", generation=generation).instance
        host.gone(ended)
        host.backend.acknowledge(ended)
    assert host.lines() == ["line 0"] * 20


def test_output_without_a_newline_before_a_crash_does_not_run_into_the_next(host: Host) -> None:
    first = host.start("bytes=" + b"half".hex(), "signal=9").instance
    host.gone(first)
    host.backend.acknowledge(first)
    host.start("lines=1", generation=2)
    eventually(lambda: len(host.lines()) == 2, "both lines")
    assert host.lines() == ["half", "line 0"]
