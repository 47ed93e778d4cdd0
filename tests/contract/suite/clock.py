"""A clock that goes wrong, for a real server."""

from __future__ import annotations

from pathlib import Path

FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def skewed(offset_s: float) -> dict[str, str]:
    """Environment variables of a process whose clock is off by that much; none for 0.

    Monotonic time stays as it is, so that timers do.
    """
    if not offset_s:
        return {}
    assert FAKETIME, "apt install libfaketime"
    return {
        "LD_PRELOAD": str(FAKETIME[0]),
        "FAKETIME": f"{offset_s:+.0f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
