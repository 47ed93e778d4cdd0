"""Randomness for jitter; decisions take it as an argument."""

from __future__ import annotations

import secrets


def random() -> float:
    """A number in [0, 1)."""
    return secrets.randbelow(1_000_000) / 1_000_000
