"""The wall clock may be set; the monotonic one tells."""

from __future__ import annotations

import time

# More than this between the two clocks: somebody set the wall clock.
JUMP_S = 2.0


class Clocks:
    """Compares the clocks from one look to the next."""

    def __init__(self) -> None:
        self._wall, self._monotonic = time.time(), time.monotonic()

    def look(self) -> tuple[float, float]:
        """Since the last look: seconds that passed, and by how many the wall clock was set
        (0 if it was not)."""
        wall, monotonic = time.time(), time.monotonic()
        passed_s = monotonic - self._monotonic
        jump_s = (wall - self._wall) - passed_s
        self._wall, self._monotonic = wall, monotonic
        return passed_s, jump_s if abs(jump_s) > JUMP_S else 0.0
