"""The one transition table of a worker [L2]."""

from __future__ import annotations

from lifecycle.errors import ImpossibleTransition
from lifecycle.types import Event, State

NEXT: dict[tuple[State, Event], State] = {
    (State.STOPPED, Event.START): State.STARTING,
    (State.CRASHED, Event.START): State.STARTING,
    (State.STARTING, Event.READY): State.RUNNING,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.RUNNING, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.EXITED): State.STOPPED,
    (State.STARTING, Event.EXITED): State.CRASHED,
    (State.RUNNING, Event.EXITED): State.CRASHED,
    (State.STARTING, Event.REFUSED): State.ERROR,
    (State.CRASHED, Event.GIVE_UP): State.ERROR,
    (State.CRASHED, Event.RESET): State.STOPPED,
    (State.ERROR, Event.RESET): State.STOPPED,
}

WITH_PROCESS = frozenset({State.STARTING, State.RUNNING, State.STOPPING})


def advance(state: State, event: Event) -> State:
    """The state that follows. Raises `ImpossibleTransition` and changes nothing otherwise."""
    try:
        return NEXT[State(state), event]
    except KeyError:
        raise ImpossibleTransition(state, event) from None


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/architecture.md."""
    lines = [f"    {a.value} --> {b.value}: {event.value}" for (a, event), b in NEXT.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> stopped", *lines])
