"""A console that loses its connection again and again, and must miss nothing [S10]."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import httpx

PAUSE_S = 0.1
SILENCE_S = 20.0  # heartbeats come every 15 s


class FeedReader:
    """Follows the events from `since` on in a thread of its own; leaves and comes back by chance.
    A context: the thread has ended when it is left, however that happens.

    `seen`: position → changes, in the order of arrival.
    """

    def __init__(self, url: str, token: str, since: int, chance: random.Random) -> None:
        self.url, self.token, self.position, self.chance = url, token, since, chance
        self.seen: list[tuple[int, dict[str, dict[str, list[int]]]]] = []
        self.connections = 0
        self.told: list[str] = []  # events that are no changes
        self._stop = threading.Event()
        self._patient = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="console", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._stop.set()
        self._thread.join(SILENCE_S + 5)
        assert not self._thread.is_alive()

    def read_to(self, position: int, eventually: Callable[..., Any]) -> None:
        """Wait until it has seen that position; it leaves its connection no more from here on."""
        self._patient.set()
        eventually(lambda: self.position >= position, 60)

    def _follow(self) -> None:
        while not self._stop.is_set():
            with suppress(httpx.HTTPError):
                self._connect()
            self._stop.wait(PAUSE_S)

    def _connect(self) -> None:
        """One connection, for as many events as chance has it."""
        headers = {
            "Authorization": f"Token {self.token}",
            "Accept": "text/event-stream",
            "Last-Event-ID": str(self.position),
        }
        most = self.chance.randrange(1, 6)
        with (
            httpx.Client(timeout=SILENCE_S) as client,
            client.stream("GET", f"{self.url}/api/v1/events", headers=headers) as response,
        ):
            response.raise_for_status()
            self.connections += 1
            event: dict[str, str] = {}
            for line in response.iter_lines():
                if self._stop.is_set():
                    return
                name, _, value = line.partition(": ")
                if line:
                    event[name] = value
                    continue
                most -= self._take(event)
                event = {}
                if most <= 0 and not self._patient.is_set():
                    return

    def _take(self, event: dict[str, str]) -> int:
        if event.get("event") == "changes":
            self.position = int(event["id"])
            self.seen.append((self.position, json.loads(event["data"])["changes"]))
            return 1
        if "event" in event:
            self.told.append(event["event"])
        return 0
