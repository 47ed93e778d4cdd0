"""A mailbox on a real Dovecot, and people who write to it, for the tests."""

from __future__ import annotations

import asyncio
import os
import smtplib
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import SMTP, default
from email.utils import format_datetime
from imaplib import IMAP4
from typing import ClassVar

from crm.demo.synapse import free_port
from sync.platforms.base import Platform
from sync.platforms.email import platform as email
from sync.platforms.email.place import Place
from sync.types import AccountRef, Attachment
from tests.contract.dovecot import Dovecot
from tests.contract.smtp_server import Relay, SmtpServer
from tests.contract.suite.stage import Ability, Sent, Stage
from tests.contract.suite.wire import Wire, wire_to

PASSWORD = "correct horse 正しい"
SENT = "Sent Items"


@dataclass(frozen=True, slots=True)
class Post:
    """The servers of one provider."""

    dovecot: Dovecot
    relay: Relay
    smtp: SmtpServer


class EmailStage(Stage):
    """Every test has a mailbox of its own."""

    platform: ClassVar[Platform] = email
    largest: ClassVar[int] = 2 * 1024 * 1024
    backlog: ClassVar[int] = int(os.environ.get("MUSTER_TEST_BACKLOG", "3000"))
    lacks: ClassVar[Mapping[Ability, str]] = {
        Ability.EDITS: "a mail that was sent stays as it is",
        Ability.DELETIONS: "IMAP tells of what was expunged only who looks: the audit",
        Ability.INVITATIONS: "there is nothing to be invited to",
        Ability.SESSIONS: "IMAP knows name and password, and nothing else",
    }

    def __init__(self, post: Post, wire: Wire, sending_wire: Wire) -> None:
        self.post = post
        self.wire = wire
        self._sending_wire = sending_wire
        tag = uuid.uuid4().hex[:8]
        self.address = f"sales-{tag}@example.org"
        self.friend = f"fraenzi-{tag}@example.net"
        self.set_password(PASSWORD)
        credentials: dict[str, object] = {
            "username": self.address,
            "password": PASSWORD,
            "display_name": "Sales, 销售",
            "smtp": f"smtp://127.0.0.1:{sending_wire.port}",
        }
        self.account = AccountRef(
            account_id=1,
            platform="email",
            identifier=self.address,
            endpoint=f"imap://127.0.0.1:{wire.port}",
            credentials=credentials,
            session={},
        )
        self.wrong = replace(self.account, credentials={**credentials, "password": "wrong-word"})
        self.away = replace(self.account, endpoint=f"imap://127.0.0.1:{free_port()}")

    @property
    def sending_wire(self) -> Wire:
        return self._sending_wire

    def set_password(self, password: str) -> None:
        self.post.dovecot.set_password(self.address, password)
        self.post.dovecot.set_password(self.friend, password)
        self.post.relay.passwords[self.address] = password

    async def thread(self) -> str:
        """A thread's name is the id of its first mail, which may be lost."""
        return f"{uuid.uuid4().hex}@example.net"

    async def say(self, thread: str, text: str) -> str:
        mail = self.mail(thread, text)
        await self.deliver(mail.as_bytes())
        return id_of(mail)

    async def say_many(self, thread: str, texts: Iterable[str]) -> None:
        form = self.mail(thread, "@text@").as_bytes()
        known = id_of(message_from_bytes(form, policy=default))
        mails = [
            form.replace(known.encode(), f"{uuid.uuid4().hex}@example.net".encode()).replace(
                b"@text@", text.encode("ascii")
            )
            for text in texts
        ]
        await asyncio.to_thread(self.post.dovecot.put, self.address, mails)

    async def say_raw(self, mails: Iterable[bytes]) -> None:
        """What no mail program would write."""
        await asyncio.to_thread(self.post.dovecot.put, self.address, mails)

    async def say_as_account(self, thread: str, text: str) -> str:
        mail = self.mail(thread, text, sender=self.address, to=self.friend)
        with self.imap() as imap:
            imap.append(f'"{SENT}"', "", "", mail.as_bytes())
        return id_of(mail)

    async def send_file(self, thread: str) -> Sent:
        mail = self.mail(thread, "see this")
        mail.add_attachment(b"123456", "image", "png", filename="图 a.png")
        await self.deliver(mail.as_bytes())
        with self.imap() as imap:
            known = [str(imap.response(name)[1][0], "ascii") for name in ("UIDVALIDITY", "UIDNEXT")]
        validity, uid = int(known[0]), int(known[1]) - 1
        user = self.address.replace("@", "%40")
        url = (
            f"imap://{user}@127.0.0.1:{self.wire.port}/INBOX;UIDVALIDITY={validity}/;UID={uid}"
            "/;SECTION=2"
        )
        return Sent(id_of(mail), Attachment(url, "图 a.png", "image/png", 6))

    async def delete(self, thread: str, entry: str) -> None:
        with self.imap() as imap:
            for number in imap.search(None, "HEADER", "Message-ID", entry)[1][0].split():
                imap.store(number.decode(), "+FLAGS", r"(\Deleted)")
            imap.expunge()

    async def texts(self, thread: str) -> list[str]:
        """What the friend has of it."""
        found = []
        with self.imap(self.friend) as imap:
            for number in imap.search(None, "HEADER", "References", thread)[1][0].split():
                parts = imap.fetch(number.decode(), "(RFC822)")[1]
                assert isinstance(parts[0], tuple)
                mail = message_from_bytes(parts[0][1], policy=default)
                assert isinstance(mail, EmailMessage)
                found.append(str(mail.get_content()).rstrip("\r\n"))
        return found

    async def is_read(self, thread: str, entry: str) -> bool:
        with self.imap() as imap:
            return bool(imap.search(None, "SEEN", "HEADER", "Message-ID", entry)[1][0])

    async def lock_out(self) -> None:
        self.set_password("another")
        self.post.dovecot.disconnect(self.address)

    def stale(self, cursor: str) -> str:
        place = Place.parse(cursor)
        inbox = place.folders["INBOX"].model_copy(update={"validity": 1})
        return place.model_copy(update={"folders": {**place.folders, "INBOX": inbox}}).text()

    async def kill(self) -> None:
        await asyncio.to_thread(self.post.dovecot.kill)

    async def restart(self, clock_offset_s: float = 0) -> None:
        await self.kill()
        await asyncio.to_thread(self.post.dovecot.start, clock_offset_s)

    # --- mails --------------------------------------------------------------------------------

    def mail(self, thread: str, text: str, sender: str = "", to: str = "") -> EmailMessage:
        mail = EmailMessage(policy=SMTP)
        mail["From"] = sender or f'"Fränzi 王, at home" <{self.friend}>'
        mail["To"] = to or self.address
        mail["Subject"] = "Re: 订单 Orders"
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{uuid.uuid4().hex}@example.net>"
        mail["References"] = f"<{thread}>"
        mail.set_content(text)
        return mail

    async def deliver(self, *mails: bytes) -> None:
        await asyncio.to_thread(self._deliver, mails)

    def _deliver(self, mails: Iterable[bytes]) -> None:
        with smtplib.LMTP("127.0.0.1", self.post.dovecot.lmtp_port) as lmtp:
            for mail in mails:
                lmtp.sendmail(self.friend, [self.address], mail)

    def imap(self, user: str = "", folder: str = "INBOX") -> IMAP4:
        """Logged in past the wire, with the folder selected."""
        imap = IMAP4("127.0.0.1", self.post.dovecot.imap_port)
        name, password = user or self.address, PASSWORD
        imap.authenticate("PLAIN", lambda _: f"\0{name}\0{password}".encode())
        imap.select(folder)
        return imap


def id_of(mail: Message) -> str:
    return str(mail["Message-ID"]).strip("<> ")


@asynccontextmanager
async def email_stage(post: Post) -> AsyncIterator[EmailStage]:
    async with AsyncExitStack() as stack:
        reading = await stack.enter_async_context(wire_to(post.dovecot.imap_port))
        sending = await stack.enter_async_context(wire_to(post.smtp.port))
        yield EmailStage(post, reading, sending)
