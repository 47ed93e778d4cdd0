"""Asking an archive for a page (XEP-0313, XEP-0059), and what it answers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from sync.errors import PlatformUnavailable
from sync.platforms.xmpp.stanzas import Archived

PAGE = 250  # messages

MAM = "urn:xmpp:mam:2"
RSM = "http://jabber.org/protocol/rsm"
RESULT = f"{{{MAM}}}result"


@dataclass(frozen=True, slots=True)
class Page:
    """A page of an archive, in its order. `count`: of all that the query is for, if it was told."""

    items: tuple[Archived, ...]
    first: str
    last: str
    is_complete: bool
    count: int | None


@dataclass(frozen=True, slots=True)
class Query:
    """Which part of an archive: between two ids (neither included), with one peer, by ids.

    `before` "" and `backwards`: the newest page.
    """

    archive: str = ""
    backwards: bool = True
    before: str = ""
    after: str = ""
    peer: str = ""
    start: str = ""  # a time of XEP-0082
    end: str = ""  # a time, too
    ids: tuple[str, ...] = ()


def query_element(query: Query, name: str) -> ET.Element:
    """The request of XEP-0313, with XEP-0059's page."""
    element = ET.Element(f"{{{MAM}}}query", {"queryid": name})
    form = ET.SubElement(element, "{jabber:x:data}x", {"type": "submit"})
    fields = {
        "with": query.peer,
        "start": query.start,
        "end": query.end,
        # Both ends at once: RSM has only one; where it pages backwards the other is a filter.
        "after-id": query.after if query.backwards else "",
    }
    add_field(form, "FORM_TYPE", MAM).set("type", "hidden")
    for key, value in fields.items():
        if value:
            add_field(form, key, value)
    if query.ids:
        add_field(form, "ids", *query.ids)
    page = ET.SubElement(element, f"{{{RSM}}}set")
    ET.SubElement(page, f"{{{RSM}}}max").text = str(PAGE)
    if query.backwards:
        ET.SubElement(page, f"{{{RSM}}}before").text = query.before or None
    elif query.after:
        ET.SubElement(page, f"{{{RSM}}}after").text = query.after
    return element


def moment(value: datetime) -> str:
    """A time of XEP-0082, without what is below a second."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def add_field(form: ET.Element, name: str, *values: str) -> ET.Element:
    field = ET.SubElement(form, "{jabber:x:data}field", {"var": name})
    for value in values:
        ET.SubElement(field, "{jabber:x:data}value").text = value
    return field


def page_of(answer: ET.Element, items: Sequence[Archived]) -> Page:
    """The page whose end the answer is. Raises `PlatformUnavailable` for an answer without one."""
    fin = answer.find(f"{{{MAM}}}fin")
    bounds = fin.find(f"{{{RSM}}}set") if fin is not None else None
    if fin is None or bounds is None:
        raise PlatformUnavailable("the server's answer to an archive query has no end")
    count = bounds.findtext(f"{{{RSM}}}count") or ""
    return Page(
        items=tuple(items),
        first=bounds.findtext(f"{{{RSM}}}first") or "",
        last=bounds.findtext(f"{{{RSM}}}last") or "",
        is_complete=fin.get("complete") in ("true", "1"),
        count=int(count) if count.isdecimal() else None,
    )
