"""Two versions of a config side by side: what somebody wanted to save, and what is by now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which the two versions differ."""

    field: str
    yours: Any
    current: Any


@dataclass(frozen=True, slots=True)
class Conflict:
    """An edit of version `yours` met version `current`."""

    yours: int
    current: int
    changed_by: str  # who saved the current version; "" where that is not known
    differences: tuple[Difference, ...]


def differences(
    edited: Mapping[str, Any], given: Mapping[str, Any], current: Mapping[str, Any]
) -> tuple[Difference, ...]:
    """Where `current` is not what would have been saved: the version that was `edited`, with the
    fields that were `given`. An `edited` version that nobody knows is {}: only `given` counts."""
    yours = {**edited, **given}
    return tuple(
        Difference(name, value, current[name])
        for name, value in yours.items()
        if name in current and value != current[name]
    )
