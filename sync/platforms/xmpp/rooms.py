"""The rooms that an account is in: its bookmarks (XEP-0402), entered to hear of news (XEP-0045)."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from sync.errors import RequestRejected
from sync.platforms.xmpp.stream import Stream

BOOKMARKS = "urn:xmpp:bookmarks:1"
PUBSUB = "http://jabber.org/protocol/pubsub"
MUC = "http://jabber.org/protocol/muc"


async def enter(stream: Stream) -> dict[str, str]:
    """Enter the bookmarked rooms that are to be entered by themselves; our nicks by their address.

    What keeps us out of one room (it is gone, we are banned) shows when its archive is asked.
    """
    nicks = await bookmarked(stream)
    for room, nick in nicks.items():
        presence = ET.Element("{jabber:client}presence", {"to": f"{room}/{nick}"})
        entry = ET.SubElement(presence, f"{{{MUC}}}x")
        ET.SubElement(entry, f"{{{MUC}}}history", {"maxstanzas": "0"})
        stream.send_now(presence)
    return nicks


async def bookmarked(stream: Stream) -> dict[str, str]:
    iq = stream.get()
    items = ET.SubElement(iq.xml, f"{{{PUBSUB}}}pubsub")
    ET.SubElement(items, f"{{{PUBSUB}}}items", {"node": BOOKMARKS})
    try:
        answer = await stream.ask(iq)
    except RequestRejected:  # the server keeps no bookmarks, or there are none
        return {}
    nicks = {}
    for item in answer.iterfind(f".//{{{PUBSUB}}}item"):
        conference = item.find(f"{{{BOOKMARKS}}}conference")
        if conference is None or conference.get("autojoin") not in ("true", "1"):
            continue
        nick = conference.findtext(f"{{{BOOKMARKS}}}nick") or stream.jid.partition("@")[0]
        nicks[(item.get("id") or "").lower()] = nick
    return nicks
