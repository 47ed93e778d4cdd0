"""The rooms that an account is in: its bookmarks (XEP-0402), entered to hear of news (XEP-0045).

A room that the account is invited to is entered and becomes a bookmark, which other programs of the
account see, too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from slixmpp.stanza import Iq

from sync.errors import RequestRejected
from sync.platforms.xmpp.archive import add_field
from sync.platforms.xmpp.stanzas import Invitation
from sync.platforms.xmpp.stream import Stream

BOOKMARKS = "urn:xmpp:bookmarks:1"
PUBSUB = "http://jabber.org/protocol/pubsub"
MUC = "http://jabber.org/protocol/muc"
# Bookmarks are nobody else's business, and all are kept (XEP-0402, 3.1).
PRIVATE = {
    "persist_items": "true",
    "max_items": "max",
    "send_last_published_item": "never",
    "access_model": "whitelist",
}

log = logging.getLogger(__name__)


async def enter(stream: Stream) -> dict[str, str]:
    """Enter the bookmarked rooms that are to be entered by themselves; our nicks by their address.

    What keeps us out of one room (it is gone, we are banned) shows when its archive is asked.
    """
    nicks = await bookmarked(stream)
    for room, nick in nicks.items():
        stream.send_now(presence(room, nick))
    return nicks


async def follow(stream: Stream, invitation: Invitation) -> str:
    """Enter a room and keep it; our nick there. Raises `RequestRejected`."""
    nick = stream.jid.partition("@")[0]
    await stream.enter(presence(invitation.room, nick, invitation.password))
    try:
        await stream.ask(bookmark(stream, invitation, nick, PRIVATE))
    except RequestRejected:  # the node is there already, and has its own options
        await stream.ask(bookmark(stream, invitation, nick, {}))
    log.info("entered room %s", invitation.room)
    return nick


def presence(room: str, nick: str, password: str = "") -> ET.Element:
    element = ET.Element("{jabber:client}presence", {"to": f"{room}/{nick}"})
    entry = ET.SubElement(element, f"{{{MUC}}}x")
    ET.SubElement(entry, f"{{{MUC}}}history", {"maxstanzas": "0"})
    if password:
        ET.SubElement(entry, f"{{{MUC}}}password").text = password
    return element


def bookmark(stream: Stream, invitation: Invitation, nick: str, options: Mapping[str, str]) -> Iq:
    """The request that adds a bookmark."""
    iq = stream.set()
    pubsub = ET.SubElement(iq.xml, f"{{{PUBSUB}}}pubsub")
    publish = ET.SubElement(pubsub, f"{{{PUBSUB}}}publish", {"node": BOOKMARKS})
    item = ET.SubElement(publish, f"{{{PUBSUB}}}item", {"id": invitation.room})
    conference = ET.SubElement(item, f"{{{BOOKMARKS}}}conference", {"autojoin": "true"})
    ET.SubElement(conference, f"{{{BOOKMARKS}}}nick").text = nick
    if invitation.password:
        ET.SubElement(conference, f"{{{BOOKMARKS}}}password").text = invitation.password
    if options:
        wanted = ET.SubElement(pubsub, f"{{{PUBSUB}}}publish-options")
        form = ET.SubElement(wanted, "{jabber:x:data}x", {"type": "submit"})
        add_field(form, "FORM_TYPE", f"{PUBSUB}#publish-options").set("type", "hidden")
        for name, value in options.items():
            add_field(form, f"pubsub#{name}", value)
    return iq


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
