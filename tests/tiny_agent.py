"""A real agent whose workers are tiny: everything of the lifecycle but Celery.

`python -m tests.tiny_agent HOME SOCKET`; it starts `python -m tests.tiny_agent zygote …`. Which
code there is, a test writes into the file `code` of the home; "broken" can't be loaded. What a
worker does is in its spec's `args`: words, run in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lifecycle.agent import server
from lifecycle.agent.keeper import Brood
from lifecycle.agent.layout import Home
from lifecycle.agent.limits import Room
from lifecycle.agent.server import Agent, take_agent_lock
from lifecycle.agent.zygote import serve
from lifecycle.types import WorkerSpec
from tests.benchmarks.supervised import stamps


def tiny_worker(spec: WorkerSpec) -> int:
    """Do what the words say, then wait for SIGTERM and end with code 0."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
    for word in spec.args:
        name, _, value = word.partition("=")
        ACTIONS[name](value)
    signal.sigwait({signal.SIGTERM})
    return 0


def _lines(count: str) -> None:
    for number in range(int(count)):
        print(f"line {number}")


def _stray(_: str) -> None:
    """A grandchild that leaves the process group and ignores SIGTERM."""
    subprocess.Popen(
        [sys.executable, "-c", "import signal,time; signal.signal(15, 1); time.sleep(600)"],
        start_new_session=True,
    )


def _record(number: int) -> str:
    """A line of 100 bytes, as our workers print them."""
    text = f'{{"time": "2026-01-01T00:00:00Z", "level": "info", "event": "line {number}", "rest": "'
    return text + "x" * (97 - len(text)) + '"}\n'


def _burst(count: str) -> None:
    """So many lines as fast as can be, one write each."""
    for number in range(int(count)):
        os.write(1, _record(number).encode())


def _paced(rate: str) -> None:
    """So many lines a second, one write each, until killed."""
    begun, number = time.monotonic(), 0
    while True:
        due = (time.monotonic() - begun) * int(rate)
        while number < due:
            os.write(1, _record(number).encode())
            number += 1
        time.sleep(0.001)


EATEN: list[bytearray] = []


def _burn() -> None:
    """Keep one core busy until killed."""
    while True:
        pass


def _child(word: str) -> None:
    """A pool child that does one word, `name:value`, and then waits."""
    if os.fork() == 0:
        name, _, value = word.partition(":")
        ACTIONS[name](value)
        signal.sigwait({signal.SIGTERM})


def _daemon() -> None:
    """A grandchild by fork alone, in a session of its own, that ignores SIGTERM."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.sigwait({signal.SIGUSR1})


def _breed() -> None:
    """Children that fork on and on, each in a session of its own, a few at a time."""
    if os.fork() == 0:
        for _ in range(300):
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(0.01)
        os._exit(0)
    for _ in range(5):
        _daemon()


ACTIONS: dict[str, Callable[[str], object]] = {
    "lines": _lines,
    "bytes": lambda value: os.write(1, bytes.fromhex(value)),
    "stderr": lambda value: print(value, file=sys.stderr),
    "exit": lambda value: os._exit(int(value)),
    "signal": lambda value: os.kill(os.getpid(), int(value)),
    "ignore": lambda value: signal.signal(int(value), signal.SIG_IGN),
    "deaf": lambda _: signal.sigwait({signal.SIGUSR1}),
    "stray": _stray,
    "env": lambda value: print(os.environ.get(value)),
    "cpus": lambda _: print(len(os.sched_getaffinity(0))),
    "cwd": lambda _: print(Path.cwd()),
    "flood": lambda _: _flood(),
    "burst": _burst,
    "paced": _paced,
    "stamp": stamps.send,  # for benchmarks: when it was alive first
    "eat": lambda value: EATEN.append(bytearray(os.urandom(1)) * (int(value) * 1024 * 1024)),
    "grow": lambda value: (signal.sigwait({signal.SIGUSR2}), ACTIONS["eat"](value)),
    "burn": lambda _: _burn(),
    "child": lambda words: _child(words),
    "daemon": lambda _: _daemon(),
    "wait": lambda _: signal.sigwait({signal.SIGUSR2}),
    "breed": lambda _: _breed(),
}


def _flood() -> None:
    """Numbered lines until killed, slow enough to be followed."""
    number = 0
    while True:
        print(f"line {number}")
        number += 1
        time.sleep(0.0005)


def agent(home: Path, socket_path: Path, *options: str) -> None:
    if options:
        server.SPAWN_TIMEOUT_S = float(options[0])
    _lock = take_agent_lock(socket_path)
    command = [sys.executable, "-m", "tests.tiny_agent", "zygote", str(home)]
    asyncio.run(Agent(home, socket_path, command).run())


def zygote(home: Path, requests: int, errors: int) -> None:
    named = home / "code"
    code = named.read_text() if named.exists() else "code"
    if code == "broken":
        raise ImportError("No module named 'broken'")
    link = socket.socket(fileno=requests)
    os.set_inheritable(requests, False)
    os.dup2(errors, 2)
    os.close(errors)
    room = home / "room"  # made by a test that wants limits
    serve(Brood(Home(home, Room(room) if room.exists() else None), link, tiny_worker, code))


if __name__ == "__main__":
    if sys.argv[1] == "zygote":
        zygote(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        agent(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
