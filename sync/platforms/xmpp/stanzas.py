"""Archived stanzas → message records. Pure.

A message is named by who wrote it and the id that the writer gave it, for corrections (XEP-0308)
and retractions (XEP-0424) name nothing else: so nobody can change a message of somebody else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree as ET

from sync.merge import combine
from sync.types import Attachment, ConversationRecord, Direction, MessageRecord, Refused

CLIENT = "{jabber:client}"
DELAY = "{urn:xmpp:delay}delay"
FORWARDED = "{urn:xmpp:forward:0}forwarded"
REPLACE = "{urn:xmpp:message-correct:0}replace"
ORIGIN_ID = "{urn:xmpp:sid:0}origin-id"
OOB = "{jabber:x:oob}x"
RETRACT = "{urn:xmpp:message-retract:1}retract"
# XEP-0424 before its version 0.4.
FASTENING = "{urn:xmpp:fasten:0}apply-to"
OLD_RETRACT = "{urn:xmpp:message-retract:0}retract"
OLD_MODERATED = "{urn:xmpp:message-moderate:0}moderated"
# What an archive has in place of a message that was retracted (XEP-0424, XEP-0425).
TOMBSTONES = (
    "{urn:xmpp:message-retract:1}retracted",
    "{urn:xmpp:message-retract:0}retracted",
    f"{OLD_MODERATED}/{{urn:xmpp:message-retract:0}}retracted",
)
MUC_USER = "{http://jabber.org/protocol/muc#user}"
DIRECT_INVITE = "{jabber:x:conference}x"
ENCRYPTED = ("{eu.siacs.conversations.axolotl}encrypted", "{urn:xmpp:omemo:2}encrypted")
# We hold no keys of encrypted chats. Such a message is shown as what it is, not left out.
ENCRYPTED_TEXT = "\N{LOCK}"
SAFE = "!$&'()*+,/:;=?@[] "  # in an id: all but # and %


class Unreadable(ValueError):
    """The stanza is no message that we understand; the message tells people why."""


@dataclass(frozen=True, slots=True)
class Archived:
    """One result of an archive query: `archive` is "" for our own, else a room's address."""

    archive_id: str
    archive: str
    forwarded: ET.Element


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose archives these are. `nicks`: what we are called in rooms, by their address."""

    jid: str
    names: dict[str, str]  # of people, by their bare address
    nicks: dict[str, str]


def read_archived(item: Archived, owner: Owner) -> MessageRecord | Refused | None:
    """The record of a result; None for what is no message (markers, receipts, chat states,
    invitations, and errors: these may hold what they answer, see `outbox`).

    A correction or retraction becomes the record of what it changes, as it is after it, and with
    its own time: the merge takes the earlier one of the original when that is there.
    """
    try:
        return _record(item, owner)
    except Unreadable as why:
        raw = {
            "archive": item.archive,
            "id": item.archive_id,
            "xml": ET.tostring(item.forwarded, encoding="unicode"),
        }
        return Refused("message", item.archive_id, json.dumps(raw), str(why))


def retracted_in_room(item: Archived) -> str:
    """The room's own id of the message that an occupant or a moderator retracts (XEP-0424, 5.1;
    XEP-0425), or ""."""
    stanza = item.forwarded.find(f"{CLIENT}message")
    return _changed(stanza)[1] if stanza is not None and item.archive else ""


def may_retract(item: Archived, original: MessageRecord) -> bool:
    """Whether the room itself retracts, for a moderator, or who wrote the original."""
    stanza = item.forwarded.find(f"{CLIENT}message")
    who = (stanza.get("from") or "") if stanza is not None else ""
    return who in (item.archive, original.sender_id)


@dataclass(frozen=True, slots=True)
class Invitation:
    room: str
    password: str


def invitation(item: Archived, owner: Owner) -> Invitation | None:
    """The room that somebody invites us to, by way of the room (XEP-0045, 7.8.2) or directly
    (XEP-0249)."""
    stanza = item.forwarded.find(f"{CLIENT}message")
    if stanza is None or item.archive or bare(stanza.get("from") or owner.jid) == owner.jid:
        return None
    if stanza.find(f"{MUC_USER}x/{MUC_USER}invite") is not None:
        password = stanza.findtext(f"{MUC_USER}x/{MUC_USER}password") or ""
        return Invitation(bare(stanza.get("from") or ""), password)
    direct = stanza.find(DIRECT_INVITE)
    if direct is None or not direct.get("jid"):
        return None
    return Invitation(bare(direct.get("jid") or ""), direct.get("password") or "")


def archived_at(item: Archived) -> datetime | None:
    """By the archive's clock; None where that makes no sense."""
    delay = item.forwarded.find(DELAY)
    try:
        return _moment(delay.get("stamp", "")) if delay is not None else None
    except Unreadable:
        return None


def read_raw(raw: str) -> Archived:
    """The result that a refusal of `read_archived` was made of. Raises `Unreadable`."""
    try:
        given = json.loads(raw)
        # Stanzas have no document type, and expat expands no external entity.
        forwarded = ET.fromstring(given["xml"])  # noqa: S314
        return Archived(str(given["id"]), str(given["archive"]), forwarded)
    except (ValueError, TypeError, KeyError, ET.ParseError) as error:
        raise Unreadable(f"this is no archived stanza: {error}") from error


def conversation(peer: str, owner: Owner, *, is_room: bool) -> ConversationRecord:
    return ConversationRecord(peer, owner.names.get(peer) or peer, is_group=is_room)


def folded(records: Iterable[MessageRecord]) -> dict[str, MessageRecord]:
    """One record for each message, whatever order its versions came in."""
    known: dict[str, MessageRecord] = {}
    for record in records:
        before = known.get(record.external_id)
        known[record.external_id] = record if before is None else combine(before, record)
    return known


def bare(address: str) -> str:
    return address.partition("/")[0].lower()


def message_id(sender: str, id: str) -> str:
    """The external id of a message. `sender`: a bare address, in rooms that of the occupant."""
    return f"{sender}#{quote(id, safe=SAFE)}"


def writer(external_id: str) -> str:
    """Who wrote it, as `message_id` was told."""
    return external_id.rpartition("#")[0]


def own_part(external_id: str) -> str:
    """The id that the writer gave it."""
    return unquote(external_id.rpartition("#")[2])


def _record(item: Archived, owner: Owner) -> MessageRecord | None:
    stanza = item.forwarded.find(f"{CLIENT}message")
    delay = item.forwarded.find(DELAY)
    if stanza is None or delay is None:
        raise Unreadable("there is no message with a time in it")
    if stanza.get("type") == "error":
        return None
    sent_at = _moment(delay.get("stamp", ""))
    author = stanza.get("from") or owner.jid
    nick = author.partition("/")[2]
    if item.archive:
        sender = author
        peer, is_own = item.archive, bool(nick) and nick == owner.nicks.get(item.archive)
        name = nick or item.archive
    else:
        is_own = bare(author) == owner.jid
        peer = bare((stanza.get("to") or "") if is_own else author)
        sender, name = bare(author), owner.names.get(bare(author)) or bare(author)
        if peer in owner.nicks or stanza.find(f"{MUC_USER}x") is not None:
            # In private, by way of a room (XEP-0045, 7.5): not to be answered before all in it.
            occupant = ((stanza.get("to") or "") if is_own else author).partition("/")[2]
            if not occupant:  # the room itself: declined invitations, changes of its settings
                return None
            peer = f"{peer}/{occupant}"
            sender, name = (sender, name) if is_own else (peer, occupant)
    if not peer:
        raise Unreadable("the message is to nobody")
    id = stanza.get("id") or _origin_id(stanza) or item.archive_id
    replaced, retracted = _changed(stanza)
    is_gone = bool(retracted) or any(stanza.find(name) is not None for name in TOMBSTONES)
    text, content_type = _content(stanza)
    if (text is None and not is_gone) or invitation(item, owner) is not None:
        return None
    return MessageRecord(
        external_id=message_id(sender, retracted or replaced or id),
        conversation_id=peer,
        sender_id=sender,
        sender_name=name,
        text="" if is_gone else (text or ""),
        sent_at=sent_at,
        direction=Direction.OUTBOUND if is_own else Direction.INBOUND,
        content_type=content_type,
        attachments=() if is_gone else _attachments(stanza),
        edited_at=sent_at if replaced else None,
        is_deleted=is_gone,
    )


def _moment(stamp: str) -> datetime:
    """A time of XEP-0082, which is in UTC."""
    try:
        return datetime.fromisoformat(stamp).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable(f"'{stamp}' is no time") from None


def _origin_id(stanza: ET.Element) -> str:
    found = stanza.find(ORIGIN_ID)
    return (found.get("id") or "") if found is not None else ""


def _changed(stanza: ET.Element) -> tuple[str, str]:
    """The ids of the message that this one corrects, and of the one that it retracts; or ""."""
    corrected = stanza.find(REPLACE)
    retracted = stanza.find(RETRACT)
    fastened = stanza.find(FASTENING)
    if retracted is None and fastened is not None:
        ways = (OLD_RETRACT, f"{OLD_MODERATED}/{OLD_RETRACT}")
        retracted = fastened if any(fastened.find(way) is not None for way in ways) else None
    return (
        (corrected.get("id") or "") if corrected is not None else "",
        (retracted.get("id") or "") if retracted is not None else "",
    )


def _content(stanza: ET.Element) -> tuple[str | None, str]:
    """Text and content type; None when the stanza says nothing to people."""
    if any(stanza.find(name) is not None for name in ENCRYPTED):
        return ENCRYPTED_TEXT, "encrypted"
    body = stanza.find(f"{CLIENT}body")
    if body is not None:
        return body.text or "", "text"
    return ("", "file") if stanza.find(OOB) is not None else (None, "")


def _attachments(stanza: ET.Element) -> tuple[Attachment, ...]:
    """Files by their address (XEP-0066)."""
    addresses = [found.findtext("{jabber:x:oob}url") or "" for found in stanza.findall(OOB)]
    return tuple(Attachment(url, _file_name(url)) for url in addresses if url)


def _file_name(url: str) -> str:
    try:
        return unquote(urlsplit(url).path.rpartition("/")[2])
    except ValueError:
        return ""
