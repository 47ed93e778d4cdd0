"""The e-mail adapter: a platform, and the connection of one account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import ClassVar

from pydantic import BaseModel, ValidationError

from sync.batches import slices, sorted_out
from sync.errors import LoginExpired, LoginFailed, PlatformUnavailable, RequestRejected
from sync.platforms.base import Connection, Platform, Tell
from sync.platforms.email import smtp, threads
from sync.platforms.email.credentials import EmailCredentials, Server
from sync.platforms.email.headers import Address
from sync.platforms.email.letter import Letter, read_letter
from sync.platforms.email.line import NOT_NOW, AuthRefused, Refusal
from sync.platforms.email.mailbox import INBOX, Login, Mailbox
from sync.platforms.email.place import Place
from sync.platforms.email.reader import PAGE, Reader, rows_of
from sync.platforms.email.sending import Replies
from sync.platforms.email.sentences import SENTENCES
from sync.platforms.email.threads import Found
from sync.platforms.listing import progressive
from sync.types import (
    NOTHING_DONE,
    AccountRef,
    Batch,
    Done,
    LastKnown,
    Listing,
    MessageRecord,
    OutgoingReply,
    Record,
    RecordKind,
    Refused,
)


class Email(Platform):
    """Threads are conversations; every mail of the INBOX and of the sent ones is a message."""

    name: ClassVar[str] = "email"
    label: ClassVar[str] = "E-mail"
    sentences: ClassVar[tuple[str, ...]] = SENTENCES
    can_wait: ClassVar[bool] = True
    needs_endpoint: ClassVar[bool] = True
    endpoint_schemes: ClassVar[tuple[str, ...]] = ("imaps", "imap")
    credentials: ClassVar[type[BaseModel]] = EmailCredentials
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset({RecordKind.CONVERSATION})
    lists_ids: ClassVar[bool] = True
    marks_read: ClassVar[bool] = True

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[EmailConnection]:
        connection = EmailConnection(account)
        try:
            yield connection
        finally:
            connection.close()

    def reread(self, account: AccountRef, kind: str, raw: str) -> Sequence[Record | Refused]:
        """`raw`: a `Letter` as JSON."""
        connection = EmailConnection(account)
        try:
            letter = Letter.model_validate_json(raw)
            is_sent = letter.location.folder == connection.sent
            return read_letter(letter, connection.ours, is_sent=is_sent)
        except ValueError as error:
            return [Refused(kind, "", raw, f"the mail can't be read: {error}")]


class EmailConnection(Connection):
    """One account's mailbox. See `sync.platforms.base.Connection` for what the methods promise.

    The session is `{"sent": name of the folder of sent mails}`: IMAP itself knows no tokens.
    """

    def __init__(self, account: AccountRef) -> None:
        self._account = account
        self.session: dict[str, object] = dict(account.session)
        self._opened: Mailbox | None = None

    @property
    def sent(self) -> str:
        return str(self.session.get("sent") or "Sent")

    @cached_property
    def ours(self) -> frozenset[str]:
        """The account's own addresses, in lower case. Raises `ValueError` for bad credentials."""
        known = self._credentials
        named = (self._account.identifier, known.username, known.address, *known.aliases)
        return frozenset(one.lower() for one in named if "@" in one)

    @cached_property
    def _credentials(self) -> EmailCredentials:
        return EmailCredentials.model_validate(dict(self._account.credentials))

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    async def login(self, tell: Tell) -> dict[str, object]:
        """Log in at both servers: a reply that can't be sent is noticed now and not then."""
        try:
            mailbox = self._mailbox()
            self._sender()
        except ValidationError as error:
            raise LoginFailed(f"the credentials are not usable: {error}") from None
        except ValueError as error:
            raise LoginFailed(str(error)) from None
        try:
            imap = await mailbox.open()
        except AuthRefused as refusal:
            raise LoginFailed(str(refusal)) from None
        mailbox.adopt(imap)
        if (login := self._smtp_login()) is not None:
            try:
                async with smtp.logged_in(login):
                    pass
            except (LoginExpired, RequestRejected) as error:
                raise LoginFailed(str(error)) from None
        self.session = {"sent": await imap.sent_folder()}
        return self.session

    async def read(self, cursor: str, wait_s: float) -> AsyncIterator[Batch]:
        mailbox = self._session_mailbox()
        async for batch in Reader(mailbox, self.ours, self.sent).read(cursor, wait_s):
            yield batch

    async def send(self, reply: OutgoingReply) -> str:
        return await self._replies().send(reply)

    async def find_sent(self, reply: OutgoingReply) -> str | None:
        """Looks for the reply's Message-ID until its copy must have arrived."""
        return await self._replies().wait_for(reply)

    def cursor_after(self, known: LastKnown) -> str:
        """Mails that arrived since the last one that we know was sent, by the server's clock, less
        two days. What was put into a folder later with an older date is for the audit."""
        if known.message_at is None:
            return ""
        last = known.message_at.astimezone(UTC) - threads.ZONES
        return Place(since=last.date().isoformat()).text()

    async def list_ids(
        self, since: datetime, done: Done = NOTHING_DONE
    ) -> AsyncIterator[Listing | None]:
        mailbox = self._session_mailbox()
        before = done.get((RecordKind.MESSAGE, ""))
        until = before.since if before else datetime.now(UTC)
        found = threads.dated_ids(mailbox, self._folders(), since, until, is_rest=bool(before))
        async for listing in progressive(RecordKind.MESSAGE, found, since, until):
            yield listing

    async def fetch(self, kind: RecordKind, scope: str, ids: Sequence[str]) -> AsyncIterator[Batch]:
        mailbox = self._session_mailbox()
        if kind is not RecordKind.MESSAGE:
            return
        for name in self._folders():
            folder, rest = await threads.locate(mailbox, name, ids)
            while folder is not None and rest:
                letters, lowest = await mailbox.letters(folder, rest[-PAGE:])
                rest = [uid for uid in rest if uid < lowest]
                rows = await asyncio.to_thread(rows_of, letters, self.ours, self.sent)
                asked = [
                    one
                    for one in rows
                    if not isinstance(one, MessageRecord) or one.external_id in ids
                ]
                for piece in slices(asked):
                    yield Batch(None, *sorted_out(piece), fetched=True)

    async def mark_read(self, conversation_id: str, message_id: str, sent_at: datetime) -> None:
        """Flags the conversation's mails in the INBOX, up to that one, as seen."""
        mailbox = self._session_mailbox()
        try:
            received = await threads.conversation(mailbox, INBOX, conversation_id, writable=True)
            uids = [one.uid for one in up_to(message_id, sent_at, received)]
            if uids:
                await (await mailbox.imap()).mark_seen(uids)
        except Refusal as refusal:
            if refusal.code in NOT_NOW:
                raise PlatformUnavailable(str(refusal)) from None
            raise RequestRejected(str(refusal), 403, refusal.code) from None

    # --- parts --------------------------------------------------------------------------------

    def _mailbox(self) -> Mailbox:
        if self._opened is None:
            known = self._credentials
            server = Server.parse(self._account.endpoint)
            self._opened = Mailbox(Login(server, known.username, known.password))
        return self._opened

    def _session_mailbox(self) -> Mailbox:
        if not self.session:
            raise LoginExpired("not logged in")
        try:
            return self._mailbox()
        except ValueError:
            raise LoginExpired("the credentials are not usable") from None

    def _smtp_login(self) -> Login | None:
        known = self._credentials
        if not known.smtp:
            return None
        return Login(
            Server.parse(known.smtp),
            known.smtp_username or known.username,
            known.smtp_password or known.password,
        )

    def _replies(self) -> Replies:
        mailbox = self._session_mailbox()
        return Replies(mailbox, self.sent, self.ours, self._sender(), self._smtp_login())

    def _sender(self) -> Address:
        """Who replies are from. Raises `ValueError`."""
        known = self._credentials
        candidates = (known.address, self._account.identifier, known.username)
        mailbox = next((one for one in candidates if "@" in one), "")
        if not mailbox:
            raise ValueError("give the e-mail address as identifier, or as credentials.address")
        return Address(mailbox.lower(), known.display_name)

    def _folders(self) -> list[str]:
        return list(dict.fromkeys((INBOX, self.sent)))


def up_to(message_id: str, sent_at: datetime, received: Sequence[Found]) -> list[Found]:
    """Those up to that mail, or up to its time if somebody moved it away; the oldest come first."""
    for index, one in enumerate(received):
        if one.external_id == message_id:
            return list(received[: index + 1])
    return [one for one in received if one.sent_at <= sent_at]
