"""How the fake platform fails: by chance, with a seed, or once and on order."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    ERROR_500 = "error_500"
    RATE_LIMIT = "rate_limit"  # 429 with Retry-After
    EXPIRE = "expire"  # the session is over: 401
    HANG = "hang"  # no answer, ever
    SLOW = "slow"  # an answer after `slow_s`
    HALF = "half"  # the connection breaks in the middle of the answer
    LOST_ANSWER = "lost_answer"  # it is done, and the connection breaks before the answer
    DUPLICATES = "duplicates"  # records come several times in a page, also earlier ones
    REORDER = "reorder"  # a page's records come in any order
    LARGE = "large"  # a page of 5 MB, whatever limit was asked for


@dataclass
class Faults:
    """Chances from 0 to 1 for each request, and what they need."""

    seed: int = 1
    error_500: float = 0
    rate_limit: float = 0
    expire: float = 0
    hang: float = 0
    slow: float = 0
    half: float = 0
    lost_answer: float = 0
    duplicates: float = 0
    reorder: float = 0
    large: float = 0
    slow_s: float = 1.0
    retry_after_s: int = 1
    large_bytes: int = 5 * 1024 * 1024

    @classmethod
    def of(cls, given: dict[str, Any]) -> Faults:
        """Raises `TypeError` for a name that there is not."""
        unknown = set(given) - {each.name for each in fields(cls)}
        if unknown:
            raise TypeError(f"there are no {sorted(unknown)}")
        return cls(**given)


@dataclass
class Misfortune:
    """What goes wrong with which request."""

    faults: Faults = field(default_factory=Faults)
    by_user: dict[str, Faults] = field(default_factory=dict)
    ordered: list[tuple[Fault, str]] = field(default_factory=list)  # with the path it is for
    happened: Counter[str] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)

    def give(self, user: str, faults: Faults) -> None:
        """To one user, whose requests then meet the same faults in each run; to all without one."""
        if user:
            self.by_user[user] = faults
            del self._asked[user]
        else:
            self.faults = faults

    def settings(self, user: str) -> Faults:
        """Those of the user, else those of all."""
        return self.by_user.get(user, self.faults)

    def of_request(self, user: str, path: str) -> set[Fault]:
        """The faults of this request, by the seed; users that share settings differ in chances."""
        for number, (fault, where) in enumerate(self.ordered):
            if where in ("", path):
                del self.ordered[number]
                self.happened[fault] += 1
                return {fault}
        faults = self.settings(user)
        self._asked[user] += 1
        sharing = "" if user in self.by_user else user
        chance = random.Random(f"{faults.seed} {sharing} {self._asked[user]}")
        chosen = {fault for fault in Fault if chance.random() < getattr(faults, fault.value)}
        self.happened.update(chosen)
        return chosen
