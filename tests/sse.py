"""Reading server-sent events as a client does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx


class Events:
    """The events of one response, as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.chunks = response.iter_text()
        self.text = ""
        self.last = ""  # the id of the last event
        self.comments = 0

    def events(self) -> Iterator[tuple[str, Any]]:
        """(name, data) of each event, until the stream ends."""
        while True:
            while "\n\n" in self.text:
                block, _, self.text = self.text.partition("\n\n")
                fields = dict(line.split(": ", 1) for line in block.split("\n"))
                self.last = fields.get("id", self.last)
                self.comments += "" in fields
                if "data" in fields:
                    yield fields.get("event", "message"), json.loads(fields["data"])
            chunk = next(self.chunks, None)
            if chunk is None:
                return
            self.text += chunk
