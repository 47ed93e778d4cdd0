"""What to do next for a worker: a pure function from wish and fact to an action.

The master calls it for each worker that something happened to. It is safe to call at any time and
as often as one likes: an action that was already carried out is either not planned again or does
nothing the second time, because backends know instances by worker and generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lifecycle.types import Alive, Exit, Instance, State, Wish


@dataclass(frozen=True, slots=True)
class View:
    """One worker, as the database says (the first part) and as its backend sees it (`alive`)."""

    worker_id: str
    enabled: bool
    wish: Wish
    wanted_generation: int
    state: State
    generation: int
    restart_at: datetime | None
    condemned: bool  # unwell: its end is a crash, and the restart policy's business
    alive: Alive | None
    reachable: bool  # the backend answered; otherwise `alive` means nothing

    @property
    def instance(self) -> Instance:
        return Instance(self.worker_id, self.generation)


@dataclass(frozen=True, slots=True)
class Start:
    """Claim the next generation, then spawn it."""

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
    """Tell the backend (again) to end what runs: it is `stopping`, or condemned."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Evict:
    """A process that no row asks for: end it."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Vanished:
    """The process is gone and nobody saw it end."""

    exit: Exit


@dataclass(frozen=True, slots=True)
class Settle:
    """A crashed worker that nobody wants any more is simply stopped."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing now; look again at `until` (None: when something happens)."""

    until: datetime | None = None


Action = Start | Spawn | Stop | Halt | Evict | Vanished | Settle | Wait


def plan(view: View, now: datetime, *, shutting_down: bool = False) -> Action:
    """The one thing to do for this worker now."""
    wanted = view.enabled and view.wish is Wish.RUNNING and not shutting_down
    if view.alive and view.alive.instance != view.instance:
        return Evict(view.alive.instance)
    match view.state:
        case State.STOPPED:
            return _plan_stopped(view, wanted)
        case State.CRASHED:
            return _plan_crashed(view, wanted, now)
        case State.ERROR:
            return Evict(view.alive.instance) if view.alive else Wait()
        case State.STARTING | State.RUNNING:
            return _plan_up(view, wanted, shutting_down)
        case State.STOPPING:
            return _plan_stopping(view)


def _plan_stopped(view: View, wanted: bool) -> Action:
    if view.alive:
        return Evict(view.alive.instance)
    return Start(view.generation + 1) if wanted and view.reachable else Wait()


def _plan_crashed(view: View, wanted: bool, now: datetime) -> Action:
    if view.alive:
        return Evict(view.alive.instance)
    if not wanted:
        return Settle()
    if view.restart_at is None or not view.reachable:
        return Wait()
    return Start(view.generation + 1) if view.restart_at <= now else Wait(view.restart_at)


def _plan_up(view: View, wanted: bool, shutting_down: bool) -> Action:
    if view.reachable and view.alive is None:
        if view.state is State.STARTING:
            return Spawn(view.instance) if wanted else Vanished(Exit(note="never started"))
        return Vanished(Exit(note="its process is gone and nobody saw it end"))
    if not wanted:
        return Stop("the system shuts down" if shutting_down else "asked to stop")
    if view.condemned:
        return Halt(view.instance)
    if view.wanted_generation > view.generation:
        return Stop("asked to restart")
    return Wait()


def _plan_stopping(view: View) -> Action:
    if not view.reachable:
        return Wait()
    return Halt(view.instance) if view.alive else Vanished(Exit())
