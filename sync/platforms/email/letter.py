"""One mail as the server gave it, and what it is to us: a message of a conversation. Pure.

A conversation is a thread. Its id is the thread's first Message-ID, told by each mail itself: the
first of References, else of In-Reply-To, else its own. So it does not depend on which mail of a
thread comes first. Only where a mail has none of these, its subject and its writer name the thread.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from sync.platforms.email.charsets import decoded, unwrapped
from sync.platforms.email.headers import Headers, base_subject, digest, stored_id
from sync.platforms.email.structure import Part, Structure
from sync.platforms.markup import readable
from sync.types import (
    Attachment,
    ConversationRecord,
    Direction,
    MessageRecord,
    RecordKind,
    Refused,
)

# A mail with more text than this (bytes as transferred) is not fetched: no row could hold it.
TEXT_LIMIT = 4 * 1024 * 1024
# Threads without any Message-ID. References of replies carry it on; no such host exists (RFC 2606).
SUBJECT_HOST = "subject.invalid"
SIGNATURE = "-- "


class Location(BaseModel):
    """Where a mail lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: str  # host:port
    user: str
    folder: str
    validity: int
    uid: int

    def url(self, section: str) -> str:
        """Of a part of the mail (RFC 5092)."""
        folder, user = quote(self.folder), quote(self.user, safe="")
        return (
            f"imap://{user}@{self.server}/{folder};UIDVALIDITY={self.validity}/;UID={self.uid}"
            f"/;SECTION={section}"
        )


class Letter(BaseModel):
    """As JSON it is the raw record of a dead letter."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )

    location: Location
    received_at: datetime
    header: bytes
    parts: tuple[Part, ...] = ()
    is_sealed: bool = False
    contents: dict[str, bytes] = Field(default_factory=dict)  # of text parts, by number

    @property
    def structure(self) -> Structure:
        return Structure(self.parts, self.is_sealed)

    def refused(self, why: str) -> Refused:
        return Refused(
            kind=RecordKind.MESSAGE,
            external_id=external_id(Headers(self.header), self.header),
            raw=self.model_dump_json(),
            error=why,
        )


def read_letter(
    letter: Letter, ours: Collection[str], *, is_sent: bool
) -> tuple[ConversationRecord, MessageRecord]:
    """`ours`: the account's own addresses in lower case; `is_sent`: from the folder of what we
    sent. Raises `ValueError` for a mail that can't be read."""
    headers = Headers(letter.header)
    senders = headers.addresses("From") or headers.addresses("Sender", "Return-Path")
    sender = senders[0] if senders else None
    people = {one.mailbox for one in headers.addresses("From", "To", "Cc")}
    own = is_sent or (sender is not None and sender.mailbox in ours)
    subject = headers.text("Subject")
    thread = conversation_id(headers)
    text = text_of(letter)
    message = MessageRecord(
        external_id=external_id(headers, letter.header),
        conversation_id=thread,
        sender_id=stored_id(sender.mailbox) if sender else "",
        sender_name=(sender.name or sender.mailbox) if sender else "",
        text=text or ("" if letter.structure.files else subject),
        sent_at=sent_at(headers, letter.received_at),
        direction=Direction.OUTBOUND if own else Direction.INBOUND,
        content_type="encrypted" if letter.is_sealed else "text",
        attachments=attachments(letter),
        is_immutable=True,
    )
    title = base_subject(subject) or message.sender_name
    return ConversationRecord(thread, title, is_group=len(people - set(ours)) > 1), message


def text_of(letter: Letter) -> str:
    """All that is there to be read, part after part. Raises `ValueError` when there is too much."""
    texts = letter.structure.texts
    size = sum(part.size for part in texts)
    if size > TEXT_LIMIT:
        raise ValueError(f"its text has {size} bytes, at most {TEXT_LIMIT} are fetched")
    found = [part_text(part, letter.contents.get(part.number, b"")) for part in texts]
    return "\n\n".join(one for one in found if one)


def part_text(part: Part, content: bytes) -> str:
    text = decoded(unwrapped(content, part.encoding), part.charset)
    if part.media_type == "text/html":
        return readable(text)
    text = text.replace("\r\n", "\n")
    if part.is_flowed:
        text = unflowed(text, joins_words=part.joins_words)
    return text.rstrip("\n")


def unflowed(text: str, *, joins_words: bool) -> str:
    """Paragraphs in one line again (RFC 3676): a space at a line's end says that it goes on."""
    lines: list[list[str]] = []  # of what was one each
    goes_on, depth = False, 0
    for line in text.split("\n"):
        body = line.lstrip(">")
        quotes = len(line) - len(body)
        body = body.removeprefix(" ")
        if goes_on and quotes == depth and body != SIGNATURE:
            lines[-1].append(body)
        else:
            lines.append([">" * quotes + " " * bool(quotes) + body])
        goes_on, depth = body.endswith(" ") and body != SIGNATURE, quotes
        if goes_on and joins_words:
            lines[-1][-1] = lines[-1][-1][:-1]
    return "\n".join("".join(pieces) for pieces in lines)


def attachments(letter: Letter) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(letter.location.url(part.number), part.name, part.media_type, part.file_size)
        for part in letter.structure.files
    )


def sent_at(headers: Headers, received_at: datetime) -> datetime:
    """When it was written; a clock that goes ahead does not put it ahead of its arrival."""
    written = headers.date()
    return min(written, received_at) if written else received_at


def external_id(headers: Headers, header: bytes) -> str:
    """The Message-ID; for a mail without one a digest of its header, which no move changes."""
    own = headers.ids("Message-ID")
    return stored_id(own[0]) if own else digest(header.strip())


def conversation_id(headers: Headers) -> str:
    for name in ("References", "In-Reply-To", "Message-ID"):
        if ids := headers.ids(name):
            return stored_id(ids[0])
    writer = headers.addresses("From")[:1]
    about = base_subject(headers.text("Subject")).casefold()
    named = digest(about.encode("utf-8", "replace"), writer[0].mailbox.encode() if writer else b"")
    return f"{named}@{SUBJECT_HOST}"
