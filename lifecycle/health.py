"""Which workers are unwell, and why: pure judgement of vital signs [L9].

A worker that beats, turns its loop, consumes its queues and keeps to its memory is well. What is
judged here is replaced by the restart policy, with the cause in its log. Waiting for a broker or a
database is not an illness: nothing here asks for either [L5].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lifecycle.types import Instance

# Memory must stay over its limit for this long: a short peak is no illness.
MEMORY_PATIENCE_S = 30.0
# A process beats as soon as Celery's start begins, long before it has a broker: one that is silent
# for so long hangs before that, in an import say.
FIRST_BEAT_S = 60.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """The signs of one worker that is starting or running; ages in seconds."""

    instance: Instance
    heartbeat_age_s: float | None  # None: no heartbeat yet
    heartbeat_timeout_s: float
    is_stuck: bool  # the worker itself says that its main loop stands still
    memory_mb: float
    max_memory_mb: float
    not_consuming: str = ""  # what is wrong with its queues, in its own words; "" for nothing


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Replace this instance. `graceful`: it can still be asked to finish its tasks first."""

    instance: Instance
    cause: str
    graceful: bool


@dataclass
class Doctor:
    """Remembers since when each worker has been over its memory limit, has not consumed or has not
    beaten at all, and whom to believe.

    `now` is a monotonic clock (s) in every call: a jump of the wall clock is not an illness.
    """

    watching_since: float
    _over_since: dict[Instance, float] = field(default_factory=dict)
    _idle_since: dict[Instance, float] = field(default_factory=dict)
    _mute_since: dict[Instance, float] = field(default_factory=dict)

    def start_over(self, now: float) -> None:
        """Old signs mean nothing (the database was away, a clock jumped): wait for new ones."""
        self.watching_since = now
        for since in (self._over_since, self._idle_since, self._mute_since):
            since.clear()

    def examine(self, workers: Iterable[Vitals], now: float) -> list[Diagnosis]:
        """Those that have to be replaced."""
        workers = list(workers)
        greedy = [vitals for vitals in workers if vitals.memory_mb > vitals.max_memory_mb]
        idle = [vitals for vitals in workers if vitals.not_consuming]
        mute = [vitals for vitals in workers if vitals.heartbeat_age_s is None]
        self._over_since = _since_when(greedy, self._over_since, now)
        self._idle_since = _since_when(idle, self._idle_since, now)
        self._mute_since = _since_when(mute, self._mute_since, now)
        found = (self._examine_one(vitals, now) for vitals in workers)
        return [diagnosis for diagnosis in found if diagnosis]

    def _examine_one(self, vitals: Vitals, now: float) -> Diagnosis | None:
        watched_s = now - self.watching_since
        silent_s = vitals.heartbeat_age_s
        timeout_s = vitals.heartbeat_timeout_s
        if silent_s is not None and silent_s > timeout_s and watched_s > timeout_s:
            return Diagnosis(vitals.instance, f"no heartbeat for {silent_s:.0f} s", graceful=False)
        mute_s = now - self._mute_since.get(vitals.instance, now)
        if mute_s > max(FIRST_BEAT_S, timeout_s):
            cause = f"no heartbeat in the {mute_s:.0f} s since its start"
            return Diagnosis(vitals.instance, cause, graceful=False)
        if vitals.is_stuck:
            return Diagnosis(vitals.instance, "its main loop makes no progress", graceful=False)
        idle_s = now - self._idle_since.get(vitals.instance, now)
        if vitals.not_consuming and idle_s > timeout_s:  # as silent as one that does not beat
            cause = f"{vitals.not_consuming}, for {idle_s:.0f} s"
            return Diagnosis(vitals.instance, cause, graceful=True)
        over_s = now - self._over_since.get(vitals.instance, now)
        if over_s >= MEMORY_PATIENCE_S:
            cause = (
                f"memory {vitals.memory_mb:.0f} MB, over its limit of "
                f"{vitals.max_memory_mb:.0f} MB for {over_s:.0f} s"
            )
            return Diagnosis(vitals.instance, cause, graceful=True)
        return None


def _since_when(
    ill: Iterable[Vitals], before: dict[Instance, float], now: float
) -> dict[Instance, float]:
    """What was there before keeps its time, what is new begins now, and the rest is over."""
    return {vitals.instance: before.get(vitals.instance, now) for vitals in ill}
