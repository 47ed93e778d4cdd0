"""The transition table [L2]: every pair is walked."""

import itertools

import pytest

from lifecycle.errors import ImpossibleTransition
from lifecycle.states import NEXT, WITH_PROCESS, advance, diagram
from lifecycle.types import Event, State


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_moves_or_raises(state: State, event: Event) -> None:
    if (state, event) in NEXT:
        assert advance(state, event) is NEXT[state, event]
    else:
        with pytest.raises(ImpossibleTransition, match=f"{state}.*{event}"):
            advance(state, event)


def test_the_states_are_exactly_the_promised_six() -> None:
    assert {s.value for s in State} == {
        "stopped",
        "starting",
        "running",
        "stopping",
        "error",
        "crashed",
    }


def test_every_state_can_be_left_and_reached() -> None:
    assert {state for state, _event in NEXT} == set(State)
    assert set(NEXT.values()) == set(State)


def test_only_a_worker_with_a_process_can_exit() -> None:
    assert {state for state, event in NEXT if event is Event.EXITED} == WITH_PROCESS


def test_the_diagram_has_every_transition() -> None:
    assert len(diagram().splitlines()) == len(NEXT) + 2
