"""XMPP accounts on a real Prosody, and people who write to them from a component (XEP-0114)."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import ClassVar
from xml.etree import ElementTree as ET

from slixmpp import ClientXMPP, ComponentXMPP
from slixmpp.xmlstream import XMLStream
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath
from slixmpp.xmlstream.stanzabase import StanzaBase

from crm.demo.synapse import free_port
from sync.platforms.base import Platform
from sync.platforms.xmpp import platform as xmpp
from sync.platforms.xmpp.place import OWN, Place, Position
from sync.platforms.xmpp.stanzas import bare, message_id, own_part
from sync.types import AccountRef, Attachment
from tests.contract.prosody import FRIENDS, HOST, ROOMS, SECRET, Prosody
from tests.contract.suite.stage import Ability, Sent, Stage
from tests.contract.suite.wire import Wire, wire_to

PASSWORD = "correct horse 正しい"
TIMEOUT_S = 20


class XmppStage(Stage):
    """Every test has its own user; each conversation is with another address."""

    platform: ClassVar[Platform] = xmpp
    largest: ClassVar[int] = 2 * 1024 * 1024
    # Prosody's files are read from their beginning for each page; 10,000 only when asked for.
    backlog: ClassVar[int] = int(os.environ.get("MUSTER_TEST_BACKLOG", "2000"))
    lacks: ClassVar[Mapping[Ability, str]] = {
        Ability.SESSIONS: "a stream is opened with the password, and there is nothing else",
    }

    def __init__(self, server: Prosody, wire: Wire) -> None:
        self.server, self.wire = server, wire
        self._tag = uuid.uuid4().hex[:8]
        self.user = f"watched-{self._tag}"
        server.register(self.user, PASSWORD)
        self.jid = f"{self.user}@{HOST}"
        self.account = AccountRef(
            account_id=1,
            platform="xmpp",
            identifier=self.jid,
            endpoint=f"xmpp://127.0.0.1:{wire.port}",
            credentials={"jid": self.jid, "password": PASSWORD},
            session={},
        )
        wrong: dict[str, object] = {"jid": self.jid, "password": "wrong-password"}
        self.wrong = replace(self.account, credentials=wrong)
        self.away = replace(self.account, endpoint=f"xmpp://127.0.0.1:{free_port()}")
        self.heard: list[ET.Element] = []  # messages that friends got
        self._friends: ComponentXMPP | None = None
        self._phone: ClientXMPP | None = None

    async def open(self) -> None:
        """Connect the friends."""
        port = self.server.component_port
        friends = ComponentXMPP(FRIENDS, SECRET, "127.0.0.1", port)  # type: ignore[no-untyped-call]
        friends.register_handler(
            Callback("heard", MatchXPath("{jabber:component:accept}message"), self._hear)
        )
        self._friends = friends
        await begin(friends)

    async def close(self) -> None:
        for stream in (self._friends, self._phone):
            if stream:
                stream.cancel_connection_attempt()
                stream.abort()
        self._friends = self._phone = None

    def _hear(self, stanza: StanzaBase) -> None:
        self.heard.append(stanza.xml)

    async def thread(self) -> str:
        return f"friend-{uuid.uuid4().hex[:8]}@{FRIENDS}"

    async def say(self, thread: str, text: str) -> str:
        if thread.endswith(f"@{ROOMS}"):
            return await self.say_in_room(thread, text)
        return await self.send(thread, body(text))

    async def send(self, thread: str, *children: ET.Element, id: str = "") -> str:
        """A message of the friend that the conversation is with."""
        id = id or uuid.uuid4().hex
        self._write(thread, id, *children)
        await self._until_done()
        return message_id(thread, id)

    def _write(self, thread: str, id: str, *children: ET.Element) -> None:
        assert self._friends
        attributes = {"from": f"{thread}/home", "to": self.jid, "type": "chat", "id": id}
        message = ET.Element("{jabber:component:accept}message", attributes)
        message.extend(children)
        self._friends.send_xml(message)

    async def _until_done(self) -> None:
        """Until the server has taken all that friends wrote."""
        assert self._friends
        iq = self._friends.make_iq_get(ito=HOST, ifrom=f"ping@{FRIENDS}/home")
        iq.append(ET.Element("{urn:xmpp:ping}ping"))
        await iq.send(timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]

    async def turn_down(self, text: str) -> None:
        """What the account said comes back, as if a server far away had turned it down."""
        assert self._friends
        (heard,) = [one for one in self.heard if text in "".join(one.itertext())]
        back = {"from": str(heard.get("to")), "to": str(heard.get("from"))}
        attributes = {**back, "type": "error", "id": str(heard.get("id"))}
        message = ET.Element("{jabber:component:accept}message", attributes)
        message.extend([body(text), ET.Element("{jabber:component:accept}error")])
        name = "{urn:ietf:params:xml:ns:xmpp-stanzas}remote-server-timeout"
        ET.SubElement(message[1], name)
        self._friends.send_xml(message)
        await self._until_done()

    async def say_many(self, thread: str, texts: Iterable[str]) -> None:
        for number, text in enumerate(texts, start=1):
            self._write(thread, uuid.uuid4().hex, body(text))
            if number % 200 == 0:
                await self._until_done()
        await self._until_done()

    async def say_as_account(self, thread: str, text: str) -> str:
        if self._phone is None:
            self._phone = phone = ClientXMPP(f"{self.jid}/phone", PASSWORD)
            phone.enable_plaintext, phone.enable_starttls = True, False
            phone.enable_direct_tls = False
            phone.plugin["feature_mechanisms"].unencrypted_scram = True
            await begin(phone, "127.0.0.1", self.server.port)
        id = uuid.uuid4().hex
        attributes = {"to": thread, "type": "chat", "id": id}
        message = ET.Element("{jabber:client}message", attributes)
        ET.SubElement(message, "{jabber:client}body").text = text
        self._phone.send_xml(message)
        iq = self._phone.make_iq_get(ito=HOST)
        iq.append(ET.Element("{urn:xmpp:ping}ping"))
        await iq.send(timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]
        return message_id(self.jid, id)

    async def open_room(self) -> str:
        """A room that Ana made, and Bob is in it."""
        assert self._friends
        room = f"room-{uuid.uuid4().hex[:8]}@{ROOMS}"
        ana, bob = (f"{name}@{FRIENDS}/home" for name in ("ana", "bob"))
        self._friends.send_raw(
            f"<presence from='{ana}' to='{room}/Ana'><x xmlns='http://jabber.org/protocol/muc'/>"
            f"</presence><iq type='set' id='made' from='{ana}' to='{room}'>"
            "<query xmlns='http://jabber.org/protocol/muc#owner'>"
            "<x xmlns='jabber:x:data' type='submit'/></query></iq>"
            f"<presence from='{bob}' to='{room}/Bob'><x xmlns='http://jabber.org/protocol/muc'/>"
            "</presence>"
        )
        await self._until_done()
        return room

    async def invite(self) -> str:
        room = await self.open_room()
        invitation = ET.Element("{http://jabber.org/protocol/muc#user}x")
        ET.SubElement(invitation, "{http://jabber.org/protocol/muc#user}invite", {"to": self.jid})
        await self.to_room(room, invitation, kind="normal")
        return room

    async def invite_directly(self) -> str:
        """Not by way of the room (XEP-0249)."""
        room = await self.open_room()
        await self.send(await self.thread(), ET.Element("{jabber:x:conference}x", {"jid": room}))
        return room

    async def room(self, nick: str) -> str:
        """One that the account has bookmarked."""
        room = await self.open_room()
        await self.say_as_account(await self.thread(), "on the phone")
        assert self._phone
        bookmark = self._phone.make_iq_set()
        pubsub = ET.SubElement(bookmark.xml, "{http://jabber.org/protocol/pubsub}pubsub")
        node = {"node": "urn:xmpp:bookmarks:1"}
        publish = ET.SubElement(pubsub, "{http://jabber.org/protocol/pubsub}publish", node)
        item = ET.SubElement(publish, "{http://jabber.org/protocol/pubsub}item", {"id": room})
        entry = {"autojoin": "true"}
        conference = ET.SubElement(item, "{urn:xmpp:bookmarks:1}conference", entry)
        ET.SubElement(conference, "{urn:xmpp:bookmarks:1}nick").text = nick
        await bookmark.send(timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]
        return room

    async def say_in_room(self, room: str, text: str, who: str = "ana") -> str:
        return message_id(f"{room}/{who.title()}", await self.to_room(room, body(text), who=who))

    async def to_room(
        self, room: str, *children: ET.Element, who: str = "ana", kind: str = "groupchat"
    ) -> str:
        assert self._friends
        id = uuid.uuid4().hex
        attributes = {"from": f"{who}@{FRIENDS}/home", "to": room, "type": kind, "id": id}
        message = ET.Element("{jabber:component:accept}message", attributes)
        message.extend(children)
        self._friends.send_xml(message)
        await self._until_done()
        return id

    async def whisper(self, room: str, nick: str, text: str) -> str:
        """Bob's words to one in the room."""
        id = await self.to_room(f"{room}/{nick}", body(text), who="bob", kind="chat")
        return message_id(f"{room}/Bob", id)

    async def retract_in_room(self, room: str, entry: str, who: str) -> None:
        retracted = ET.Element("{urn:xmpp:message-retract:1}retract", {"id": self._known_as(entry)})
        await self.to_room(room, retracted, ET.Element("{urn:xmpp:hints}store"), who=who)

    async def moderate(self, room: str, entry: str) -> None:
        """Ana takes somebody else's message away (XEP-0425)."""
        assert self._friends
        iq = self._friends.make_iq_set(ito=room, ifrom=f"ana@{FRIENDS}/home")
        target = {"id": self._known_as(entry)}
        fastening = ET.SubElement(iq.xml, "{urn:xmpp:fasten:0}apply-to", target)
        moderate = ET.SubElement(fastening, "{urn:xmpp:message-moderate:0}moderate")
        ET.SubElement(moderate, "{urn:xmpp:message-retract:0}retract")
        await iq.send(timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]

    def _known_as(self, entry: str) -> str:
        """What the room calls a message."""
        name = "{urn:xmpp:sid:0}stanza-id"
        known = (found.find(name) for found in self.heard if found.get("id") == own_part(entry))
        return next(str(one.get("id")) for one in known if one is not None)

    async def edit(self, thread: str, entry: str, text: str) -> None:
        replaced = ET.Element("{urn:xmpp:message-correct:0}replace", {"id": own_part(entry)})
        await self.send(thread, body(text), replaced)

    async def delete(self, thread: str, entry: str) -> None:
        retracted = ET.Element("{urn:xmpp:message-retract:1}retract", {"id": own_part(entry)})
        stored = ET.Element("{urn:xmpp:hints}store")
        await self.send(thread, retracted, stored)

    async def send_file(self, thread: str) -> Sent:
        url = "https://files.example/abc/%E5%9B%BE%20a.png"
        oob = ET.Element("{jabber:x:oob}x")
        ET.SubElement(oob, "{jabber:x:oob}url").text = url
        return Sent(await self.send(thread, body(url), oob), Attachment(url, "图 a.png"))

    async def texts(self, thread: str) -> list[str]:
        """What the friend got."""
        await self._until_done()
        return [
            found.findtext("{jabber:component:accept}body") or ""
            for found in self.heard
            if bare(found.get("to") or "") == thread
        ]

    async def is_read(self, thread: str, entry: str) -> bool:
        """Whether the friend was told of this very message."""
        await self._until_done()
        markers = [
            found.find("{urn:xmpp:chat-markers:0}displayed")
            for found in self.heard
            if bare(found.get("to") or "") == thread
        ]
        return any(one is not None and one.get("id") == own_part(entry) for one in markers)

    async def lock_out(self) -> None:
        await asyncio.to_thread(self.server.remove, self.user)
        await asyncio.to_thread(self.server.register, self.user, "another")

    def stale(self, cursor: str) -> str:
        return Place.parse(cursor).moved(OWN, Position(top="nonsense")).text()

    async def kill(self) -> None:
        self.server.kill()

    async def restart(self, clock_offset_s: float = 0) -> None:
        await self.close()
        self.server.kill()
        await asyncio.to_thread(self.server.start, clock_offset_s)
        await self.open()


def body(text: str) -> ET.Element:
    element = ET.Element("{jabber:component:accept}body")
    element.text = text
    return element


async def begin(stream: XMLStream, host: str | None = None, port: int | None = None) -> None:
    """Connect and wait for the session."""
    ready = asyncio.ensure_future(stream.wait_until("session_start", TIMEOUT_S))
    if host:
        stream.connect(host, port)
    else:
        stream.connect()
    await ready


@asynccontextmanager
async def xmpp_stage(server: Prosody) -> AsyncIterator[XmppStage]:
    async with wire_to(server.port) as wire:
        stage = XmppStage(server, wire)
        await stage.open()
        try:
            yield stage
        finally:
            await stage.close()
