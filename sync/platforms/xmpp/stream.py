"""One XMPP stream, held open: opening it, asking, querying archives, hearing of news."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import uuid
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from slixmpp import ClientXMPP
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.stanza import Iq
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath
from slixmpp.xmlstream.stanzabase import StanzaBase

from sync.errors import (
    CursorInvalid,
    LoginExpired,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms.xmpp.archive import RESULT, Page, Query, page_of, query_element
from sync.platforms.xmpp.credentials import XmppCredentials
from sync.platforms.xmpp.outbox import Outbox, condition
from sync.platforms.xmpp.stanzas import FORWARDED, Archived

OPEN_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 30.0
ENTER_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
KEEPALIVE_S = 60
WAIT_AFTER_LIMIT_S = 30.0
PORTS = {"xmpp": 5222, "xmpps": 5223}

T = TypeVar("T")


class _Client(ClientXMPP):
    """slixmpp's client without its reconnecting: whoever owns the stream decides on that."""

    def reschedule_connection_attempt(self) -> None:
        self._current_connection_attempt = None


class Stream:
    """An open stream of one account. All methods raise `PlatformUnavailable` once it is gone."""

    def __init__(self, client: _Client, credentials: XmppCredentials) -> None:
        self._client = client
        self.jid = credentials.jid.lower()
        loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[str] = loop.create_future()
        self.news = asyncio.Event()
        self._results: dict[str, list[Archived]] = {}
        self.outbox = Outbox(self.jid)
        self._entering: dict[str, asyncio.Future[str]] = {}  # by the address in the room

    @classmethod
    async def open(cls, endpoint: str, credentials: XmppCredentials) -> Stream:
        """Connect, log in, and become present, so that news are sent to us.

        Raises `LoginExpired` when the server does not take the password.
        """
        host, port, is_tls = address(endpoint)
        client = _Client(f"{credentials.jid}/muster-{uuid.uuid4().hex[:8]}", credentials.password)
        client.enable_direct_tls, client.enable_starttls = is_tls, not is_tls
        client.enable_plaintext = not is_tls and is_loopback(host)
        client.ssl_context.minimum_version = ssl.TLSVersion.TLSv1_2
        client.plugin["feature_mechanisms"].unencrypted_scram = client.enable_plaintext
        client.whitespace_keepalive_interval = KEEPALIVE_S
        stream = cls(client, credentials)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await stream._begin(host, port)
        except TimeoutError:
            stream.close()
            raise PlatformUnavailable(f"no stream to {host} in time") from None
        except BaseException:
            stream.close()
            raise
        return stream

    async def _begin(self, host: str, port: int) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def failed(error: PlatformError) -> None:
            if not ready.done():
                ready.set_exception(error)

        def begun(_event: object) -> None:
            if not ready.done():
                ready.set_result(None)

        client = self._client
        client.add_event_handler("session_start", begun)
        refusals: list[str] = []  # of each way to log in that was tried
        client.add_event_handler("failed_auth", lambda why: refusals.append(str(why["condition"])))
        client.add_event_handler(
            "failed_all_auth",
            lambda _: failed(no_login(refusals, isinstance(client.socket, ssl.SSLObject))),
        )
        client.add_event_handler(
            "connection_failed",
            lambda why: failed(PlatformUnavailable(f"can't reach the server: {why}")),
        )
        client.add_event_handler("disconnected", self._lost)
        client.register_handler(
            Callback("archive", MatchXPath(f"{{jabber:client}}message/{RESULT}"), self._take)
        )
        client.register_handler(
            Callback("messages", MatchXPath("{jabber:client}message"), self._hear)
        )

        client.register_handler(
            Callback("presence", MatchXPath("{jabber:client}presence"), self._see)
        )

        def closed(gone: asyncio.Future[str]) -> None:
            failed(PlatformUnavailable(f"the stream was closed: {gone.result()}"))

        self.gone.add_done_callback(closed)
        client.connect(host, port)
        await ready
        client.send_presence(ppriority=0)
        carbons = client.make_iq_set()
        carbons.append(ET.Element("{urn:xmpp:carbons:2}enable"))
        with suppress(RequestRejected):  # without carbons our own messages don't wake us
            await self.ask(carbons)

    def close(self) -> None:
        """Close it without waiting for the server."""
        if not self.gone.done():
            self.gone.set_result("we closed it")
        self._client.cancel_connection_attempt()
        self._client.abort()

    async def leave(self) -> None:
        """Close it in order, but soon."""
        if not self.gone.done():
            await asyncio.wait([self._client.disconnect(wait=CLOSE_TIMEOUT_S)], timeout=2)
        self.close()

    def _lost(self, reason: object) -> None:
        if not self.gone.done():
            self.gone.set_result(str(reason or "the connection broke"))

    def _hear(self, stanza: StanzaBase) -> None:
        if stanza.xml.get("type") == "error":
            if self.outbox.refuse(stanza.xml):
                self.news.set()
        elif stanza.xml.find(RESULT) is None:
            self.news.set()

    def _see(self, stanza: StanzaBase) -> None:
        """Our own presence in a room is the last that it sends to one who enters (XEP-0045)."""
        entering = self._entering.get(stanza.xml.get("from") or "")
        if entering is None or entering.done():
            return
        is_error = stanza.xml.get("type") == "error"
        error = stanza.xml.find("{jabber:client}error")
        entering.set_result(condition(error) if is_error else "")

    def _take(self, stanza: StanzaBase) -> None:
        result = stanza.xml.find(RESULT)
        sender = (stanza.xml.get("from") or "").partition("/")[0].lower()
        if result is None or result.get("queryid") not in self._results:
            return
        archive = "" if sender in ("", self.jid) else sender
        forwarded = result.find(FORWARDED)
        item = Archived(
            result.get("id") or "",
            archive,
            forwarded if forwarded is not None else ET.Element(FORWARDED),
        )
        self._results[str(result.get("queryid"))].append(item)

    async def ask(self, iq: Iq) -> ET.Element:
        """Send a request and return the answer's stanza. Raises `RequestRejected`."""
        try:
            answer = await self._while_open(send(iq))
        except IqTimeout:
            raise PlatformUnavailable("no answer in time") from None
        except IqError as error:
            raise refusal(error) from error
        xml: ET.Element = answer.xml
        return xml

    def get(self) -> Iq:
        """A new request to our own server, to be filled."""
        return self._client.make_iq_get()

    def set(self) -> Iq:
        """A new request that changes something at our own server, to be filled."""
        return self._client.make_iq_set()

    def send_now(self, stanza: ET.Element) -> None:
        """Send a stanza to which nothing is answered."""
        self._client.send_xml(stanza)

    async def _while_open(self, request: Awaitable[T]) -> T:
        asked = asyncio.ensure_future(request)
        either: list[asyncio.Future[Any]] = [asked, self.gone]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not asked.done():
                asked.cancel()
        if asked.cancelled() or not asked.done():
            raise PlatformUnavailable("the stream was closed")
        return asked.result()

    async def ping(self) -> None:
        """Return once the server has done all that was sent before."""
        iq = self._client.make_iq_get(ito=self.jid.partition("@")[2])
        iq.append(ET.Element("{urn:xmpp:ping}ping"))
        try:
            await self.ask(iq)
        except RequestRejected:  # it knows no pings: that is an answer, too
            return

    async def wait_for_news(self, timeout_s: float) -> None:
        """Until a message comes, or the time is over."""
        heard = asyncio.ensure_future(self.news.wait())
        either: list[asyncio.Future[Any]] = [heard, self.gone]
        try:
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            heard.cancel()
        if self.gone.done():
            raise PlatformUnavailable(f"the stream was closed: {self.gone.result()}")

    async def send(self, message: ET.Element) -> None:
        """Send a message; once this returns the server has it. Raises `RequestRejected`. What the
        server of the addressee makes of it shows in `outbox`."""
        if self.gone.done():
            raise PlatformUnavailable("the stream was closed")
        with self.outbox.sending(message) as sending:
            self._client.send_xml(message)
            await self.ping()
        if why := sending.refused:
            raise RequestRejected(f"the server refuses the message: {why}", 400, why)

    async def enter(self, presence: ET.Element) -> None:
        """Send a presence to a room and wait until we are in it. Raises `RequestRejected`; also
        when the room does not answer."""
        place = presence.get("to") or ""
        answer = self._entering[place] = asyncio.get_running_loop().create_future()
        try:
            self._client.send_xml(presence)
            async with asyncio.timeout(ENTER_TIMEOUT_S):
                refused = await self._while_open(answer)
        except TimeoutError:
            refused = "no answer"
        finally:
            del self._entering[place]
        if refused:
            raise RequestRejected(f"the room can't be entered: {refused}", 400, refused)

    async def query(self, query: Query) -> Page:
        """One page. Raises `CursorInvalid` when the archive doesn't know an id of the query."""
        iq = self._client.make_iq_set(ito=query.archive or None)
        name = uuid.uuid4().hex
        iq.append(query_element(query, name))
        self._results[name] = []
        try:
            answer = await self.ask(iq)
        except RequestRejected as error:
            if error.code == "item-not-found" and (query.before or query.after):
                raise CursorInvalid("the archive does not know the id any more") from error
            raise
        finally:
            items = self._results.pop(name)
        return page_of(answer, items)

    async def roster(self) -> dict[str, str]:
        """The names that the account gave people, by their bare address."""
        iq = self._client.make_iq_get()
        iq.append(ET.Element("{jabber:iq:roster}query"))
        answer = await self.ask(iq)
        items = answer.iterfind(".//{jabber:iq:roster}item")
        return {(item.get("jid") or "").lower(): item.get("name") or "" for item in items}


def send(iq: Iq) -> Awaitable[Iq]:
    """Send a request; the answer to it."""
    answer: Awaitable[Iq] = iq.send(timeout=ANSWER_TIMEOUT_S)  # type: ignore[no-untyped-call]
    return answer


def refusal(error: IqError) -> PlatformError:
    """What an error answer means (RFC 6120, 8.3)."""
    said = str(error.condition)
    if said in ("resource-constraint", "policy-violation"):
        return RateLimited(f"the server asks to slow down: {said}", WAIT_AFTER_LIMIT_S)
    if said in ("internal-server-error", "service-unavailable", "remote-server-timeout"):
        return PlatformUnavailable(f"the server can't answer: {said}")
    if said in ("not-authorized", "registration-required"):
        return LoginExpired(f"the server says {said}")
    return RequestRejected(f"the server refuses: {said} {error.text}".strip(), 400, said)


def no_login(refusals: Sequence[str], is_encrypted: bool) -> PlatformError:
    """Why nobody was logged in, from what the server said to each way (RFC 6120, 6.5)."""
    if refusals and "temporary-auth-failure" not in refusals:
        return LoginExpired(f"the server refuses the password: {refusals[0]}")
    if refusals:
        return PlatformUnavailable("the server can't check the password now")
    if not is_encrypted:
        return PlatformUnavailable(
            "the server offers no encryption, and no password is sent without it"
        )
    return PlatformUnavailable("the server knows no way to log in that we know")


def address(endpoint: str) -> tuple[str, int, bool]:
    """Host, port, and whether TLS begins at once. Raises `PlatformUnavailable`."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in PORTS:
        raise PlatformUnavailable("the address is none of xmpp://host:port or xmpps://host:port")
    return host, port or PORTS[parts.scheme], parts.scheme == "xmpps"


def is_loopback(host: str) -> bool:
    """Where a stream without TLS meets nobody else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
