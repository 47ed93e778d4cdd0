"""What to do next for a worker: a pure function from wish and fact to an action.

The master calls it for each worker that something happened to. It is safe to call at any time and
as often as one likes: an action that was already carried out is either not planned again or does
nothing the second time, because backends know instances by worker and generation.

A restart replaces before it retires [L8]: the successor is spawned beside the current instance;
once it is ready it becomes the current one, and the old one retires (drains and ends).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from lifecycle.policy import RestartPolicy, backoff
from lifecycle.types import Exit, Instance, State, Wish

# How long a successor may take to be ready before the restart is called off.
SUCCESSOR_PATIENCE = timedelta(seconds=60)
# A backend that answers, but can't start a worker (its lock is held, the disk is full), is asked
# again less and less often, and in the end not any more.
SPAWN_RETRIES = RestartPolicy(delay=timedelta(seconds=1), cap=timedelta(seconds=30), jitter=0.25)
SPAWN_PATIENCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A generation that the backend could not start so far."""

    generation: int
    attempts: int
    since: datetime
    retry_at: datetime
    cause: str


def troubled(
    before: Trouble | None, generation: int, cause: str, now: datetime, random: float
) -> Trouble:
    """After one more attempt that failed; `random` in [0, 1)."""
    is_same = before is not None and before.generation == generation
    attempts, since = (before.attempts, before.since) if before and is_same else (0, now)
    retry_at = now + backoff(SPAWN_RETRIES, attempts, random)
    return Trouble(generation, attempts + 1, since, retry_at, cause)


# How long a process that should be there may not be seen before its end is taken for certain.
UNSEEN_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class View:
    """One worker, as the database says (the first part) and as its backend sees it."""

    worker_id: str
    enabled: bool
    wish: Wish
    wanted_generation: int
    replace_first: bool  # a restart starts the successor before it ends the current instance
    state: State
    generation: int
    last_generation: int  # the newest that was ever claimed
    successor: int | None
    successor_since: datetime | None
    retiring: int | None
    restart_at: datetime | None
    condemned: bool  # unwell: its end is a crash, and the restart policy's business
    alive: frozenset[int]  # generations of which a process lives
    reachable: bool  # the backend answered; otherwise `alive` means nothing
    trouble: Trouble | None = None
    unseen_s: float = float("inf")  # for how long the row's own process has not been among `alive`

    @property
    def instance(self) -> Instance:
        return Instance(self.worker_id, self.generation)

    def other(self, generation: int) -> Instance:
        return Instance(self.worker_id, generation)

    @property
    def is_alive(self) -> bool:
        return self.generation in self.alive


@dataclass(frozen=True, slots=True)
class Start:
    """Claim the next generation, then spawn it."""

    generation: int


@dataclass(frozen=True, slots=True)
class Succeed:
    """Claim the next generation as successor, then spawn it beside the current one."""

    generation: int


@dataclass(frozen=True, slots=True)
class Spawn:
    """Spawn a generation that was claimed but never seen (the master died in between)."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Stop:
    """Begin to stop: the state changes, then the backend is told."""

    cause: str


@dataclass(frozen=True, slots=True)
class Halt:
    """Tell the backend (again) to end what runs: it is `stopping`, condemned, or retiring."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Evict:
    """A process that no row asks for: end it."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class CallOff:
    """The successor is not ready in time: end it, the current instance goes on."""

    cause: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It can't be started, for long enough: `error` until a person acts."""

    instance: Instance
    cause: str


@dataclass(frozen=True, slots=True)
class Vanished:
    """The process is gone and nobody saw it end."""

    instance: Instance
    exit: Exit


@dataclass(frozen=True, slots=True)
class Settle:
    """A crashed worker that nobody wants any more is simply stopped."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing now; look again at `until` (None: when something happens)."""

    until: datetime | None = None


Action = Start | Succeed | Spawn | Stop | Halt | Evict | CallOff | GiveUp | Vanished | Settle | Wait


def plan(view: View, now: datetime, *, shutting_down: bool = False) -> Action:
    """The one thing to do for this worker now."""
    wanted = view.enabled and view.wish is Wish.RUNNING and not shutting_down
    if stray := _stray(view, wanted):
        return Evict(stray)
    if view.retiring is not None and view.reachable:
        if view.retiring not in view.alive:
            return Vanished(view.other(view.retiring), Exit())
        if view.state not in (State.STARTING, State.RUNNING, State.STOPPING):
            return Halt(view.other(view.retiring))
    match view.state:
        case State.STOPPED:
            return Start(view.last_generation + 1) if wanted and view.reachable else Wait()
        case State.CRASHED:
            return _plan_crashed(view, wanted, now)
        case State.ERROR:
            return Wait()
        case State.STARTING | State.RUNNING:
            return _plan_up(view, wanted, now, shutting_down)
        case State.STOPPING:
            return _plan_stopping(view, now)


def _stray(view: View, wanted: bool) -> Instance | None:
    """A living generation that the row does not account for. The one after a crash whose claim the
    database lost (`services.exited`) is no stray: it is claimed again."""
    up = view.state in (State.STARTING, State.RUNNING, State.STOPPING)
    known = {view.retiring, *((view.successor, view.generation) if up else ())}
    if view.state is State.CRASHED and wanted:
        known.add(view.last_generation + 1)
    strays = sorted(view.alive - known)
    return view.other(strays[0]) if strays else None


def _plan_crashed(view: View, wanted: bool, now: datetime) -> Action:
    if not wanted:
        return Settle()
    if not view.reachable:
        return Wait()
    if view.last_generation + 1 in view.alive:
        return Start(view.last_generation + 1)
    if view.restart_at is None:
        return Wait()
    if view.restart_at > now:
        return Wait(view.restart_at)
    return Start(view.last_generation + 1)


def _plan_up(view: View, wanted: bool, now: datetime, shutting_down: bool) -> Action:
    never_started = view.state is State.STARTING and not view.is_alive
    if view.reachable and never_started and wanted:
        return _plan_spawn(view, view.instance, now)
    if view.reachable and not never_started and not view.is_alive:
        unseen = Exit(note="its process is gone and nobody saw it end")
        return _awaited(view, now) or Vanished(view.instance, unseen)
    if not wanted:
        return Stop("the system shuts down" if shutting_down else "asked to stop")
    if view.condemned:
        return Halt(view.instance)
    if view.successor is not None and view.reachable:
        return _plan_succession(view, view.successor, now)
    if view.retiring is not None:
        return Halt(view.other(view.retiring))
    if view.wanted_generation > view.generation:
        return _plan_restart(view)
    return Wait()


def _plan_restart(view: View) -> Action:
    if view.replace_first and view.state is State.RUNNING:
        return Succeed(view.last_generation + 1) if view.reachable else Wait()
    return Stop("asked to restart")


def _plan_succession(view: View, successor: int, now: datetime) -> Action:
    if successor not in view.alive:
        return _plan_spawn(view, view.other(successor), now)
    if view.successor_since is None:
        return Wait()
    deadline = view.successor_since + SUCCESSOR_PATIENCE
    if now >= deadline:
        seconds = SUCCESSOR_PATIENCE.total_seconds()
        return CallOff(f"the new process was not ready within {seconds:.0f} s")
    return Wait(deadline)


def _plan_spawn(view: View, instance: Instance, now: datetime) -> Action:
    trouble = view.trouble
    if trouble is None or trouble.generation != instance.generation:
        return Spawn(instance)
    is_successor = instance.generation == view.successor
    patience = SUCCESSOR_PATIENCE if is_successor else SPAWN_PATIENCE
    if now >= trouble.since + patience:
        cause = f"could not be started for {patience.total_seconds():.0f} s: {trouble.cause}"
        return CallOff(cause) if is_successor else GiveUp(instance, cause)
    return Wait(trouble.retry_at) if now < trouble.retry_at else Spawn(instance)


def _plan_stopping(view: View, now: datetime) -> Action:
    if not view.reachable:
        return Wait()
    if view.is_alive:
        return Halt(view.instance)
    return _awaited(view, now) or Vanished(view.instance, Exit())


def _awaited(view: View, now: datetime) -> Wait | None:
    """A process that says itself that it is ready may be ahead of its agent, which finds it when
    its record is written; and an exit may be on its way."""
    left_s = UNSEEN_PATIENCE_S - view.unseen_s
    return Wait(now + timedelta(seconds=left_s)) if left_s > 0 else None
