"""A reply as a mail. Pure: the same reply gives the same mail, however often it is made."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from sync.platforms.email.headers import Address, Headers, base_subject
from sync.platforms.email.letter import SUBJECT_HOST
from sync.types import OutgoingReply

# A header of References has room for about so many (RFC 5322 2.1.1 and 3.6.4): the first, which
# names the thread, and the last ones.
MOST_REFERENCES = 20
# Of a header: the library would tear a long message id apart to keep to the usual 78 characters.
LONGEST_LINE = 900


@dataclass(frozen=True, slots=True)
class Outgoing:
    message_id: str  # without brackets
    people: tuple[str, ...]  # who receives it
    data: bytes


def message_id(reply: OutgoingReply, sender: str) -> str:
    """Told by the reply's key alone, so that a mail that was sent can be found again."""
    named = hashlib.sha256(f"{sender}\0{reply.key}".encode()).hexdigest()[:40]
    return f"muster.{named}@{sender.rpartition('@')[2]}"


def compose(
    reply: OutgoingReply, to: Headers, sender: Address, ours: Collection[str], *, is_own: bool
) -> Outgoing:
    """An answer to the mail with these headers, to all who take part in it.

    `is_own`: we wrote that mail, so its recipients are who we talk to. Raises `ValueError` when
    nobody is left to receive it.
    """
    people = recipients(to, ours, is_own=is_own)
    if not people:
        raise ValueError("nobody but ourselves takes part in this conversation")
    own_id = message_id(reply, sender.mailbox)
    mail = EmailMessage(policy=SMTP)
    mail["From"] = header_address(sender)
    mail["To"] = [header_address(one) for one in people]
    mail["Subject"] = f"Re: {base_subject(to.text('Subject'))}".strip()
    mail["Date"] = format_datetime(reply.created_at)
    mail["Message-ID"] = f"<{own_id}>"
    known = to.ids("References") or to.ids("In-Reply-To")[:1]
    answered = to.ids("Message-ID")[:1]
    if answered:
        mail["In-Reply-To"] = f"<{answered[0]}>"
    elif not known and reply.conversation_id.endswith(f"@{SUBJECT_HOST}"):
        known = [reply.conversation_id]
    references = [one for one in known if one not in answered] + answered
    if references:
        mail["References"] = " ".join(f"<{one}>" for one in shortened(references))
    mail.set_content(storable(reply.text), cte=transfer_encoding(reply.text))
    wide = SMTP.clone(max_line_length=LONGEST_LINE, utf8=not is_ascii(sender, *people))
    return Outgoing(own_id, tuple(one.mailbox for one in people), mail.as_bytes(policy=wide))


def recipients(to: Headers, ours: Collection[str], *, is_own: bool) -> tuple[Address, ...]:
    writers = () if is_own else to.addresses("Reply-To") or to.addresses("From")
    everybody = {one.mailbox: one for one in (*writers, *to.addresses("To", "Cc"))}
    return tuple(one for mailbox, one in everybody.items() if mailbox not in ours)


def shortened(references: Sequence[str]) -> list[str]:
    references = [one for one in references if len(one) < LONGEST_LINE - 20 and one.isascii()]
    if len(references) <= MOST_REFERENCES:
        return references
    return [references[0], *references[-MOST_REFERENCES + 1 :]]


def header_address(address: Address) -> HeaderAddress:
    name = "".join(one for one in address.name if one.isprintable())
    local, _, domain = address.mailbox.rpartition("@")
    return HeaderAddress(storable(name), username=local, domain=domain)


def is_ascii(*addresses: Address) -> bool:
    return all(one.mailbox.isascii() for one in addresses)


def storable(text: str) -> str:
    """Without halves of surrogate pairs, which no charset has."""
    return text.encode("utf-8", "replace").decode()


def transfer_encoding(text: str) -> str:
    """Quoted-printable shows most of a Western text; for others base64 is shorter."""
    data = text.encode("utf-8", "replace")
    if all(32 <= one < 127 or one in b"\n\t" for one in data):
        longest = max(map(len, data.split(b"\n")))
        return "7bit" if longest < 900 and "\r" not in text else "quoted-printable"
    return "quoted-printable" if sum(one > 126 for one in data) * 3 < len(data) else "base64"
