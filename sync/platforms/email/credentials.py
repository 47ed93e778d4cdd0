"""What an e-mail account needs: a login at its IMAP server and, for replies, an SMTP server."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parseaddr
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

PORTS = {"imap": 143, "imaps": 993, "smtp": 587, "smtps": 465}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Server:
    """Where a mail server listens. Encrypted from the first byte (`imaps`, `smtps`), or by STARTTLS
    (`imap`, `smtp`). Without any encryption no password is sent, except to this very machine."""

    host: str
    port: int
    is_tls: bool

    @classmethod
    def parse(cls, address: str) -> Server:
        """Raises `ValueError` for what is not such an address."""
        parts = urlsplit(address)
        if parts.scheme not in PORTS or not parts.hostname or not is_bare(parts):
            raise ValueError(f"not the address of a mail server: {address!r}")
        port = parts.port or PORTS[parts.scheme]
        return cls(parts.hostname, port, is_tls=parts.scheme.endswith("s"))

    @property
    def may_be_plain(self) -> bool:
        return self.host in LOOPBACK


def is_bare(parts: SplitResult) -> bool:
    return parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username)


def _smtp(address: str) -> str:
    if address:
        try:
            scheme = urlsplit(address).scheme
            Server.parse(address)
        except ValueError:
            scheme = ""
        if scheme not in {"smtp", "smtps"}:
            raise PydanticCustomError(
                "smtp_address", "enter an address such as smtps://smtp.example.org"
            )
    return address


def _mailbox(address: str) -> str:
    if address and (parseaddr(address)[1] != address or "@" not in address):
        raise PydanticCustomError("mail_address", "enter an e-mail address")
    return address


Mailbox = Annotated[str, AfterValidator(_mailbox), Field(max_length=254)]


class EmailCredentials(BaseModel):
    """`username` and `password` are for both servers unless SMTP has its own.

    `address`: who replies are from, where the account's identifier is no e-mail address.
    `aliases`: further addresses of the account: what comes from them was written by us.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    username: str = Field(min_length=1, max_length=255)
    password: str = Field(min_length=1, max_length=1024, repr=False)
    address: Mailbox = ""
    display_name: str = Field("", max_length=200)
    aliases: tuple[Mailbox, ...] = Field((), max_length=50)
    smtp: Annotated[str, AfterValidator(_smtp)] = Field("", max_length=500)
    smtp_username: str = Field("", max_length=255)
    smtp_password: str = Field("", max_length=1024, repr=False)
