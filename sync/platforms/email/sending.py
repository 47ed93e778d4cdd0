"""Sending a reply once: by SMTP, with a copy to ourselves as the proof (docs/adr/0018)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from sync.errors import PlatformError, RequestRejected
from sync.platforms.email import smtp, threads
from sync.platforms.email.headers import Address
from sync.platforms.email.mailbox import INBOX, Login, Mailbox
from sync.platforms.email.outgoing import Outgoing, compose, message_id
from sync.types import OutgoingReply

log = logging.getLogger(__name__)

# How long the copy of a reply may take from the SMTP server into our own INBOX.
DELIVERY_S = 10.0
LOOK_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Replies:
    """Of one account. `sent`: the folder of sent mails; `ours`: its own addresses; `login`: at its
    SMTP server, None where it has none."""

    mailbox: Mailbox
    sent: str
    ours: Collection[str]
    sender: Address
    login: Login | None

    async def send(self, reply: OutgoingReply) -> str:
        """Raises `RequestRejected` when nobody can receive it, or the account has no SMTP."""
        if self.login is None:
            raise RequestRejected("the account's credentials name no SMTP server", 501)
        if found := await self.find(reply):
            return found
        outgoing = await self._compose(reply)
        own = self.sender.mailbox
        async with smtp.logged_in(self.login) as server:
            await smtp.hand_over(server, own, outgoing.people, own, outgoing.data)
        await self._keep(outgoing)
        return outgoing.message_id

    async def find(self, reply: OutgoingReply) -> str | None:
        """The reply among the sent mails, or its copy in the INBOX."""
        own_id = message_id(reply, self.sender.mailbox)
        for folder in dict.fromkeys((self.sent, INBOX)):
            if await threads.has_mail(self.mailbox, folder, own_id):
                return own_id
        return None

    async def wait_for(self, reply: OutgoingReply) -> str | None:
        """As `find`, until the copy must have arrived."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + DELIVERY_S
        while (found := await self.find(reply)) is None and clock() < deadline:
            await asyncio.sleep(LOOK_AGAIN_S)
        return found

    async def _compose(self, reply: OutgoingReply) -> Outgoing:
        """An answer to the newest mail of the conversation, best to one that we received."""
        sent = await threads.conversation(self.mailbox, self.sent, reply.conversation_id)
        received = await threads.conversation(self.mailbox, INBOX, reply.conversation_id)
        for found in (*reversed(received), *reversed(sent)):
            writers = {one.mailbox for one in found.headers.addresses("From")}
            is_own = found.folder.name == self.sent or not writers.isdisjoint(self.ours)
            try:
                return compose(reply, found.headers, self.sender, self.ours, is_own=is_own)
            except ValueError as error:
                log.info("no answer to mail %s: %s", found.external_id, error)
        raise RequestRejected("no mail of this conversation can be answered any more", 550)

    async def _keep(self, outgoing: Outgoing) -> None:
        """Put what was sent among the sent mails, where the provider has not done so itself."""
        try:
            if not await threads.has_mail(self.mailbox, self.sent, outgoing.message_id):
                await (await self.mailbox.imap()).append(self.sent, outgoing.data)
        except PlatformError as error:  # it is sent all the same; its copy in the INBOX shows it
            log.warning("%s is sent but not in %s: %s", outgoing.message_id, self.sent, error)
