"""What became of messages that were sent: a server far away may refuse one after ours took it.

An error has the id of what it answers (RFC 6120, 8.3.1), and comes from where that went. All others
are nobody's: what strangers call an error is not kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from sync.platforms.xmpp.stanzas import CLIENT, bare

REMEMBERED = 1000  # messages: with each of them a later error finds what it is for
LONGEST_ERROR = 4000  # characters


@dataclass(frozen=True, slots=True)
class Bounce:
    """A message that came back after it was taken for sent."""

    id: str
    to: str
    condition: str
    error: str  # as XML


@dataclass(slots=True)
class Sending:
    """A message under way; `refused`: the condition of the error that answered it so far, or ""."""

    refused: str = ""


class Outbox:
    """Of the account with the address `jid`. `bounces`: those that nobody has taken out yet."""

    def __init__(self, jid: str) -> None:
        self._own_host = host(jid)
        self._under_way: dict[str, Sending] = {}
        self._sent: OrderedDict[str, str] = OrderedDict()  # to whom, by id
        self.bounces: list[Bounce] = []

    @contextmanager
    def sending(self, message: ET.Element) -> Iterator[Sending]:
        """While it is not known whether our own server takes it. Of markers nobody is told later
        that they did not arrive."""
        id = message.get("id") or ""
        self._sent[id] = message.get("to") or ""
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)
        sending = self._under_way[id] = Sending()
        try:
            yield sending
        finally:
            del self._under_way[id]
            if message.find(f"{CLIENT}body") is None:
                self._sent.pop(id, None)

    def refuse(self, stanza: ET.Element) -> bool:
        """Take in a message of type error; whether it brought a bounce."""
        id, to = stanza.get("id") or "", self._sent.get(stanza.get("id") or "")
        if to is None or host(stanza.get("from") or to) not in (host(to), self._own_host):
            return False
        del self._sent[id]
        error = stanza.find(f"{CLIENT}error")
        if sending := self._under_way.get(id):
            sending.refused = condition(error)
            return False
        xml = ET.tostring(error, encoding="unicode") if error is not None else ""
        self.bounces.append(Bounce(id, to, condition(error), xml[:LONGEST_ERROR]))
        return True


def host(address: str) -> str:
    return bare(address).rpartition("@")[2]


def condition(error: ET.Element | None) -> str:
    """The name of a stanza error's condition."""
    names = (each.tag.rpartition("}")[2] for each in error) if error is not None else iter(())
    return next((name for name in names if name != "text"), "error")
