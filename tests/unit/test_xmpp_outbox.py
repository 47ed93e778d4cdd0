"""Errors that come for what was sent, and for what was not."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from sync.platforms.xmpp import outbox
from sync.platforms.xmpp.outbox import Outbox

ME, ANA = "me@a.test", "ana@b.test"


def message(id: str = "i1", to: str = ANA, child: str = "body") -> ET.Element:
    made = ET.Element("{jabber:client}message", {"to": to, "type": "chat", "id": id})
    ET.SubElement(made, f"{{jabber:client}}{child}").text = "hello"
    return made


def error(id: str = "i1", writer: str = ANA, said: str = "service-unavailable") -> ET.Element:
    attributes = {"from": writer, "to": f"{ME}/x", "type": "error", "id": id}
    made = ET.Element("{jabber:client}message", attributes)
    why = ET.SubElement(made, "{jabber:client}error")
    ET.SubElement(why, f"{{urn:ietf:params:xml:ns:xmpp-stanzas}}{said}")
    return made


def sent(box: Outbox, one: ET.Element) -> None:
    with box.sending(one):
        pass


def test_error_while_it_is_sent_is_the_answer() -> None:
    box = Outbox(ME)
    with box.sending(message()) as sending:
        assert not box.refuse(error())
    assert (sending.refused, box.bounces) == ("service-unavailable", [])
    assert not box.refuse(error()), "once is enough"


@pytest.mark.parametrize("writer", [ANA, f"{ANA}/phone", "b.test", "a.test", ""])
def test_later_error_is_a_bounce_once(writer: str) -> None:
    box = Outbox(ME)
    sent(box, message())
    assert box.refuse(error(writer=writer))
    assert not box.refuse(error(writer=writer))
    (bounce,) = box.bounces
    assert (bounce.id, bounce.to, bounce.condition) == ("i1", ANA, "service-unavailable")


def test_what_strangers_call_an_error_is_not_kept() -> None:
    box = Outbox(ME)
    sent(box, message())
    assert not box.refuse(error(writer="eve@c.test"))
    for number in range(5000):
        assert not box.refuse(error(f"unknown-{number}"))
    assert box.bounces == []
    assert len(box._sent) == 1


def test_markers_are_not_missed() -> None:
    box = Outbox(ME)
    sent(box, message(child="displayed"))
    assert not box.refuse(error())
    assert not box._sent


def test_only_the_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "REMEMBERED", 3)
    box = Outbox(ME)
    for number in range(5):
        sent(box, message(f"i{number}"))
    assert [box.refuse(error(f"i{number}")) for number in range(5)] == [False] * 2 + [True] * 3
