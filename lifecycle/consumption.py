"""Does a worker consume its queues? Pure judgement of what it sees of its own consumer [L9].

Healthy means that it consumes, not only that it answers (celery #4079). Two things are told apart
from being idle: a queue that is demanded and not consumed (somebody cancelled the consumer, or a
reconnect lost it), and a consumer that fetches nothing though a slot is free and its queue is not
empty (celery #8030, #8384, #10205). All slots busy for long is no illness: tasks may be long.

See docs/adr/0013-consuming-is-health.md.
"""

from __future__ import annotations

from dataclasses import dataclass

# The reason of a worker that can't reach its broker: it consumes nothing, and that is no illness.
WAITING_FOR_BROKER = "waiting for broker"


@dataclass(frozen=True, slots=True)
class Look:
    """What a worker sees of its own consumer at one heartbeat."""

    consumed: frozenset[str] | None  # None: no judgement (waits for its broker, drains, is busy)
    is_free: bool = False  # a slot is free, and the prefetch limit is not reached
    received: int = 0  # messages so far
    waiting: frozenset[str] = frozenset()  # of the demanded queues: those that are not empty


@dataclass(frozen=True, slots=True)
class Consumption:
    """What a worker reports of its queues, each sorted by name."""

    consumed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # demanded and not consumed
    unfetched: tuple[str, ...] = ()  # consumed and not empty, yet nothing is fetched

    def __str__(self) -> str:
        """What is wrong, as people say it; "" when nothing is."""
        return complaint(self.missing, self.unfetched)


def complaint(missing: tuple[str, ...], unfetched: tuple[str, ...]) -> str:
    """What is wrong with these queues, as people say it; "" when nothing is."""
    said = []
    if missing:
        said.append(f"does not consume {', '.join(missing)}")
    if unfetched:
        said.append(f"fetches nothing from {', '.join(unfetched)} though it has free slots")
    return "; ".join(said)


def judge(demanded: frozenset[str], before: Look | None, now: Look) -> Consumption:
    """Only what two looks in a row have seen counts: a reconnect is over by then."""
    consumed = now.consumed or frozenset()
    shown = tuple(sorted(consumed))
    if now.consumed is None or before is None or before.consumed is None:
        return Consumption(shown)
    missing = demanded - now.consumed - before.consumed
    at_rest = now.is_free and before.is_free and now.received == before.received
    unfetched = now.consumed & now.waiting & before.waiting if at_rest else frozenset()
    return Consumption(shown, tuple(sorted(missing)), tuple(sorted(unfetched)))
