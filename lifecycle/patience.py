"""How long to wait for a broker or a database that is away [L5]. Pure."""

from __future__ import annotations

FIRST_S = 2.0
LONGEST_S = 10.0
JITTER = 0.2  # of the wait, taken off at most: a fleet does not come back all at once


def wait_s(failed: int, random: float) -> float:
    """Seconds to wait after `failed` tries in a row (1 or more): 2, 4, 8, 10, 10 …, less the
    jitter; `random` is in [0, 1)."""
    longest = min(FIRST_S * 2.0 ** min(failed - 1, 10), LONGEST_S)
    return longest * (1 - JITTER * random)
