"""Numbered lines against what was counted when they were written: none lost, none twice."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.numbered import FILLING

NUMBERED = re.compile(rf"([0-9a-f]{{8}}) (\d{{9}}) {re.escape(FILLING)}")
PART = re.compile(r"^[0-9a-f]{8} \d|\.\.\.\.$")
CONFESSION = "[muster] "


@dataclass
class Ledger:
    """The log of one worker, fed as it grows.

    Where a confession stands (the disk was full) lines may be missing, and one may be cut in two;
    nowhere else.
    """

    worker_id: str
    confessions: int = 0
    violations: list[str] = field(default_factory=list)
    _next: dict[str, int] = field(default_factory=dict)  # token -> number of the next line
    # Tokens of which lines may be missing here: none was seen since the last confession.
    _excused: set[str] = field(default_factory=set)
    # Tokens of processes that died at the same moment as everybody who could have read their pipe.
    _forgiven: set[str] = field(default_factory=set)
    _torn: str = ""
    _confessed: bool = False
    _rest: bytes = b""

    def feed(self, data: bytes, tokens: Iterable[str] = ()) -> None:
        """`tokens`: the processes that have written until now; of some, all may be lost."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line.decode("utf-8", "backslashreplace"), tokens)

    def _take(self, line: str, tokens: Iterable[str]) -> None:
        if line.startswith(CONFESSION):
            self.confessions += 1
            self._confessed, self._torn = True, ""
            self._excused = {*self._next, *tokens}
            return
        if self._torn and self._torn[:8] not in self._forgiven:
            self._violated(f"a torn line {self._torn!r}")
        self._torn = ""
        if match := NUMBERED.fullmatch(line):
            self._number(match[1], int(match[2]))
            self._confessed = False
        elif PART.search(line) and not self._confessed:
            self._torn = line  # fine only if a confession follows

    def _number(self, token: str, number: int) -> None:
        expected = self._next.get(token, 0)
        excused = token in self._excused | self._forgiven or (
            self.confessions and token not in self._next
        )
        if number != expected and not (excused and number > expected):
            what = "repeated" if number < expected else "lost"
            self._violated(f"line {number} of {token} where {expected} should be: {what}")
        self._next[token] = number + 1
        self._excused.discard(token)

    def _violated(self, what: str) -> None:
        self.violations.append(f"{self.worker_id}: {what}")

    def forgive(self, tokens: Iterable[str]) -> None:
        """Lines of these processes may be missing from now on, and one may be cut short."""
        self._forgiven |= set(tokens)

    def behind(self, tallies: dict[str, int]) -> list[str]:
        """What was counted but is not in the log (yet, for a process that lives)."""
        return [
            f"{self.worker_id}: {token} wrote {count} lines, the log has {self._next.get(token, 0)}"
            for token, count in tallies.items()
            if self._next.get(token, 0) < count and token not in self._excused | self._forgiven
        ]

    def seen(self) -> int:
        return sum(self._next.values())
