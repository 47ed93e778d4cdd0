"""Who must be looked at, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lifecycle.master.agenda import Agenda

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=1)


def agenda() -> Agenda:
    return Agenda(resync_at=NOON + timedelta(hours=1))


def test_each_is_due_once_and_may_be_added_again() -> None:
    found = agenda()
    for _ in range(2):
        found.add("b", LATER)
        found.add("a", NOON)
    assert found.next_at() == NOON
    assert found.due(NOON) == {"a"}
    assert found.due(NOON) == set()
    assert found.next_at() == LATER
    found.add("a", NOON)
    assert found.due(LATER) == {"a", "b"}


def test_deadlines_that_mean_nothing_can_be_added_again() -> None:
    found = agenda()
    found.add("a", LATER)
    found.start_over(NOON)
    assert found.takes_all(NOON)
    assert found.due(LATER) == set()
    found.add("a", LATER)
    assert found.due(LATER) == {"a"}


class Compared(str):
    """Counts how often it is compared."""

    __slots__ = ()
    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_a_fleet_that_crashed_is_added_without_a_look_through_all_of_it() -> None:
    found = agenda()
    for number in range(500):
        found.add(Compared(f"worker-{number:04}"), LATER)
    assert Compared.times < 500 * 50
    assert len(found.due(LATER)) == 500
