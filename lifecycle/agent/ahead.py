"""The start that is most likely asked for next: of a worker that crashed, as it was.

What that takes and what needs no decision is done while the master decides. Nothing runs, no lock
is held, and no pid is on record until the start is asked for.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from socket import socket as Socket

from lifecycle.agent.layout import Home
from lifecycle.agent.protocol import GO
from lifecycle.agent.zygotes import Zygotes
from lifecycle.types import Instance, WorkerSpec

# A restart that is not asked for by then has to wait for its time, and there may be others.
PATIENCE_S = 1.0


class Ahead:
    """One start at most: there is one spare. Used from one event loop only."""

    def __init__(self, home: Home, zygotes: Zygotes) -> None:
        self.home = home
        self.zygotes = zygotes
        self._ready: tuple[WorkerSpec, Socket] | None = None

    def prepare(self, ended: Instance) -> None:
        """The next generation of an instance whose folder is still there."""
        following = Instance(ended.worker_id, ended.generation + 1)
        if self._ready:
            return
        with suppress(OSError, KeyError, TypeError, ValueError):  # it is only a guess
            spec = replace(self.home.spawn_dir(ended).spec(), instance=following, replaces=None)
            self.home.spawn_dir(following).create(spec)
            if orders := self.zygotes.make_ready(following):
                self._ready = spec, orders
                asyncio.get_running_loop().call_later(PATIENCE_S, self._drop, spec)
            else:
                self.home.spawn_dir(following).remove()

    def start(self, spec: WorkerSpec) -> bool:
        """Whether this is what was prepared, and starts now."""
        if self._ready is None or self._ready[0].instance != spec.instance:
            return False
        (prepared, orders), self._ready = self._ready, None
        with orders, suppress(OSError):  # it was killed
            if prepared == spec:
                orders.send(GO)
                return True
        return False

    def drop(self) -> None:
        """Nothing is prepared any more."""
        if self._ready:
            (spec, orders), self._ready = self._ready, None
            orders.close()
            self.home.spawn_dir(spec.instance).remove()

    def _drop(self, spec: WorkerSpec) -> None:
        if self._ready and self._ready[0] is spec:
            self.drop()
