"""Numbered tasks that are sent while things break, and what became of each of them.

What is promised: who keeps its process keeps its tasks [L10]; a worker that is stopped or replaced
gracefully finishes what it has and gives back the rest [L7, L8]. So in a round that kills no worker
and leaves the broker alone each task is done, and once. A worker that is killed loses what it had
(or another runs it again, when it was acknowledged late and its time is over), and a broker that is
killed or frozen may lose the last second and deliver again (docs/adr/0001).
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from lifecycle.agent import process
from lifecycle.types import ProcessRef

QUEUE = "chaos"
PAUSE_S = 0.5
LONGEST_S = 0.5
TIMEOUT_S = 3


@dataclass
class Tally:
    """What the journal says of the tasks, by number."""

    begun: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # (pid, started ticks)
    ended: Counter[int] = field(default_factory=Counter)

    def take(self, line: str) -> None:
        number, event, pid, ticks = line.split()
        if event == "begins":
            self.begun.setdefault(int(number), []).append((int(pid), int(ticks)))
        else:
            self.ended[int(number)] += 1


class Work:
    """Sends a task every half second while it is told to."""

    def __init__(self, broker_url: str, journal: Path) -> None:
        self.journal = journal
        self.tally = Tally()
        self.sent: set[int] = set()  # the broker has said that it has them
        self.excused: set[int] = set()  # may be missing or done twice, for a known reason
        self._read = 0
        self._next = 0
        self._random = Random(0)
        self._app = Celery(broker=broker_url, set_as_current=False)
        limits = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
        self._app.conf.broker_transport_options = {**limits, "max_retries": 0}
        self._flows, self._ends = threading.Event(), threading.Event()
        self._idle = threading.Lock()
        self._boot_id = process.refer(1).boot_id
        threading.Thread(target=self._run, daemon=True).start()

    def flow(self) -> None:
        self._flows.set()

    def stop(self) -> None:
        """Nothing more is sent when this returns."""
        self._flows.clear()
        with self._idle:
            pass

    def close(self) -> None:
        self._ends.set()
        self._flows.set()

    def _run(self) -> None:
        pause = threading.Event()
        while self._flows.wait() and not self._ends.is_set():
            with self._idle:
                if self._flows.is_set():
                    self._send()
            pause.wait(PAUSE_S)

    def _send(self) -> None:
        number, self._next = self._next, self._next + 1
        name = self._random.choice(("chaos.tick", "chaos.tick_late"))
        arguments = (number, round(self._random.uniform(0, LONGEST_S), 2), str(self.journal))
        try:
            with self._app.connection_for_write() as connection:
                self._app.send_task(
                    name, arguments, queue=QUEUE, connection=connection, retry=False
                )
        except (OperationalError, RedisError, OSError):
            self.excused.add(number)  # it may have arrived
        else:
            self.sent.add(number)

    # --- what became of it ---

    def look(self) -> None:
        """Read what the journal has grown by."""
        if not self.journal.exists():
            return
        with self.journal.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode().splitlines():
            self.tally.take(line)

    def undone(self, *, all_of_them: bool) -> list[str]:
        """Tasks that must still end: those of living processes, or `all_of_them` that were sent."""
        self.look()
        missing = sorted(self.sent - self.excused - self.tally.ended.keys())
        return [
            f"task {number} was sent and is not done ({self._where(number)})"
            for number in missing
            if all_of_them or any(map(self._lives, self.tally.begun.get(number, ())))
        ]

    def twice(self) -> list[str]:
        """Tasks that were done more than once although no process that had them died."""
        found = [
            number
            for number, runs in self.tally.begun.items()
            if len(runs) > 1 and number not in self.excused and all(map(self._lives, runs))
        ]
        self.excused |= set(found)  # said once
        return [f"task {number} ran twice ({self._where(number)})" for number in found]

    def forgive(self) -> None:
        """All that is not done may never be, or later, or twice: its process or the broker died."""
        self.look()
        self.excused |= self.sent - self.tally.ended.keys()

    def _lives(self, run: tuple[int, int]) -> bool:
        return process.is_alive(ProcessRef(*run, self._boot_id))

    def _where(self, number: int) -> str:
        runs = self.tally.begun.get(number, [])
        said = [f"begun by {run[0]}{'' if self._lives(run) else ', dead'}" for run in runs]
        return "; ".join(said) or "not begun"
