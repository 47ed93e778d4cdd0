"""What is missing, where a platform numbers what it sends: a jump is a gap [S9]. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

# More stretches than this are told as one, from the first to the last.
MOST_STRETCHES = 50


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """Numbers that are missing, both ends included."""

    first: int
    last: int


def follow(
    highest: int | None, missing: Iterable[Stretch], arrived: Iterable[int]
) -> tuple[int | None, tuple[Stretch, ...]]:
    """The highest number and what is missing below it, after `arrived` (any order, repeats)."""
    stretches = sorted(missing)
    for number in sorted(set(arrived)):
        if highest is None or number == highest + 1:
            highest = number
        elif number > highest:
            stretches.append(Stretch(highest + 1, number - 1))
            highest = number
        else:
            stretches = [part for one in stretches for part in _without(one, number)]
    return highest, _few(stretches)


def restarted(
    last_at: datetime | None, now: datetime, numbers_restart_after: timedelta | None
) -> bool:
    """Whether the platform may have begun to number anew since the last one came."""
    if last_at is None or numbers_restart_after is None:
        return False
    return now - last_at >= numbers_restart_after


def _without(one: Stretch, number: int) -> list[Stretch]:
    if not one.first <= number <= one.last:
        return [one]
    parts = [Stretch(one.first, number - 1), Stretch(number + 1, one.last)]
    return [part for part in parts if part.first <= part.last]


def _few(stretches: list[Stretch]) -> tuple[Stretch, ...]:
    extra = len(stretches) - MOST_STRETCHES
    if extra <= 0:
        return tuple(stretches)
    oldest = Stretch(stretches[0].first, stretches[extra].last)
    return (oldest, *stretches[extra + 1 :])
