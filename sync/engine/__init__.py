"""The asyncio engine: how one process watches many accounts [S2]. See docs/architecture.md."""

from sync.engine.process import end, stop, take, watched

__all__ = ["end", "stop", "take", "watched"]
