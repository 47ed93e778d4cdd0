"""What goes wrong in a round: a pure function of seed and round number, so it can be had again.

Targets are named, never pids: who bears the name is looked up when the blow falls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.chaos.fleet import WORKERS

PARTS = ("master", "agent", "zygote", "web", "valkey", "postgres")
OF_A_WORKER = ("main", "keeper", "pool")
CLOCK_OFFSETS_S = (-7200, -40, 0, 90, 7200)
LONGEST_DELAY_S = 1.5
LONG_FREEZE_S = (10, 25)


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL."""

    target: str  # a part, or main, keeper or pool
    worker_id: str = ""


@dataclass(frozen=True, slots=True)
class KillTogether:
    """SIGKILL to all of these at one moment: a worker, its keeper, and who looks after both."""

    targets: tuple[str, ...]
    worker_id: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """SIGSTOP, and SIGCONT after `hold_s` seconds."""

    target: str
    hold_s: float
    worker_id: str = ""


@dataclass(frozen=True, slots=True)
class FillDisk:
    """No byte more fits where the logs are, for `hold_s` seconds."""

    hold_s: float


@dataclass(frozen=True, slots=True)
class SetClock:
    """The master's wall clock is wrong by this much from now on."""

    offset_s: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator asks for over the API; several workers: as a batch."""

    verb: str  # start, stop, restart
    worker_ids: tuple[str, ...]
    graceful: bool = True


Fault = Kill | KillTogether | Freeze | FillDisk | SetClock | Wish


@dataclass(frozen=True, slots=True)
class Timed:
    at_s: float  # since the beginning of the round
    fault: Fault


def plan(seed: int, number: int) -> tuple[Timed, ...]:
    """The faults of one round, in the order of their time."""
    random = Random(f"{seed}/{number}")
    kind = random.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
    faults = kind(random)
    if kind is not _wishes and random.random() < 0.4:
        faults += _wishes(random)
    timed = [Timed(round(random.uniform(0, LONGEST_DELAY_S), 2), fault) for fault in faults]
    if kind in (_pair, _keeper_and_main):  # these together
        timed[:2] = [Timed(timed[0].at_s, fault) for fault in faults[:2]]
    return tuple(sorted(timed, key=lambda one: one.at_s))


def _part(random: Random) -> list[Fault]:
    return [Kill(random.choice(PARTS))]


def _pair(random: Random) -> list[Fault]:
    first, second = random.choice(
        (("master", "agent"), ("agent", "zygote"), ("master", "postgres"), ("valkey", "postgres"))
    )
    return [Kill(first), Kill(second)]


def _worker(random: Random) -> list[Fault]:
    count = random.choice((1, 1, 2, len(WORKERS)))
    target = random.choice(OF_A_WORKER)
    return [Kill(target, worker_id) for worker_id in random.sample(WORKERS, count)]


def _keeper_and_main(random: Random) -> list[Fault]:
    worker_id = random.choice(WORKERS)
    return [Kill("keeper", worker_id), Kill("main", worker_id)]


def _at_once(random: Random) -> list[Fault]:
    """Nobody is left who could see the worker end."""
    others = random.choice((("agent",), ("agent", "master"), ("agent", "zygote")))
    return [KillTogether((*others, "keeper", "main"), random.choice(WORKERS))]


def _frozen_long(random: Random) -> list[Fault]:
    """Longer than most time limits that something may have run into."""
    return _frozen(random, LONG_FREEZE_S)


def _frozen(random: Random, between_s: tuple[float, float] = (0.5, 5)) -> list[Fault]:
    hold_s = round(random.uniform(*between_s), 1)
    target = random.choice((*PARTS, *OF_A_WORKER))
    worker_id = random.choice(WORKERS) if target in OF_A_WORKER else ""
    return [Freeze(target, hold_s, worker_id)]


def _disk(random: Random) -> list[Fault]:
    """While there is no room, those end who know what was lost."""
    faults: list[Fault] = [FillDisk(round(random.uniform(1, 4), 1))]
    for worker_id in random.sample(WORKERS, random.choice((0, 1, 2, len(WORKERS)))):
        targets = random.choice((("main",), ("keeper",), ("keeper", "main")))
        faults += [Kill(target, worker_id) for target in targets]
    return faults


def _clock(random: Random) -> list[Fault]:
    return [SetClock(random.choice(CLOCK_OFFSETS_S)), Kill("main", random.choice(WORKERS))]


def _wishes(random: Random) -> list[Fault]:
    wishes: list[Fault] = []
    for _ in range(random.choice((1, 2, 3))):
        # Starts weigh more: a fleet that is stopped has nothing to lose.
        verb = random.choice(("start", "start", "start", "stop", "restart", "restart"))
        count = random.choice((1, 1, 2, len(WORKERS)))
        workers = tuple(random.sample(WORKERS, count))
        wishes.append(Wish(verb, workers, graceful=random.random() < 0.6))
    return wishes


def _storm(random: Random) -> list[Fault]:
    """Everything that decides or forks dies while workers die and people click."""
    faults: list[Fault] = [Kill(part) for part in random.sample(("master", "agent", "web"), 2)]
    faults += [Kill("main", worker_id) for worker_id in random.sample(WORKERS, 3)]
    return faults + _wishes(random)


WEIGHTS: dict[Callable[[Random], list[Fault]], int] = {
    _part: 4,
    _pair: 2,
    _worker: 4,
    _keeper_and_main: 2,
    _at_once: 2,
    _frozen: 3,
    _frozen_long: 1,
    _disk: 2,
    _clock: 1,
    _wishes: 4,
    _storm: 2,
}
