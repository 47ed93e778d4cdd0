"""Handing a mail to the account's SMTP server (RFC 5321)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import aiosmtplib

from sync.errors import (
    LoginExpired,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
    Unreachable,
)
from sync.platforms.email.mailbox import Login

TIMEOUT_S = 60.0  # each command; some servers scan a mail before they take it
SLOW_DOWN_S = 60.0
PERMANENT = 500
SLOW_DOWN = re.compile(r"\b4\.7\.\d+|rate|too (many|much|fast)", re.IGNORECASE)  # RFC 3463 3.8


@asynccontextmanager
async def logged_in(login: Login) -> AsyncIterator[aiosmtplib.SMTP]:
    """A connection that may send. Raises `LoginExpired`, `PlatformUnavailable`, `RateLimited`."""
    server = login.server
    smtp = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.is_tls,
        start_tls=None if server.may_be_plain else not server.is_tls,
        timeout=TIMEOUT_S,
    )
    try:
        with translated():
            await smtp.connect()
            await smtp.ehlo()  # what it can do now that the line is encrypted
            if login.username and smtp.supports_extension("auth"):
                await smtp.login(login.username, login.password)
        yield smtp
    finally:
        smtp.close()


async def hand_over(
    smtp: aiosmtplib.SMTP, sender: str, people: Sequence[str], own: str, mail: bytes
) -> None:
    """Send one mail to all of `people`, or to none, and a copy to `own`.

    Raises `RequestRejected` when the server refuses the mail or one of the people for good. After
    any other error it may have been sent.
    """
    with translated():
        options = [] if all(one.isascii() for one in (sender, *people)) else ["SMTPUTF8"]
        await smtp.mail(sender, options=options)
        for one in people:
            await smtp.rcpt(one)
        if own not in people:
            await take_copy(smtp, own)
        await smtp.data(mail)


async def take_copy(smtp: aiosmtplib.SMTP, own: str) -> None:
    """A server that does not know our own mailbox sends all the same."""
    try:
        await smtp.rcpt(own)
    except aiosmtplib.SMTPRecipientRefused as refused:
        if refused.code < PERMANENT:
            raise


@contextmanager
def translated() -> Iterator[None]:
    """The library's errors as ours."""
    try:
        yield
    except aiosmtplib.SMTPAuthenticationError as error:
        if error.code < PERMANENT:
            raise PlatformUnavailable(
                f"the SMTP server can't log us in now: {said(error)}"
            ) from None
        raise LoginExpired(f"the SMTP server refuses the login: {said(error)}") from None
    except aiosmtplib.SMTPResponseException as error:
        raise failure(error) from None
    except (aiosmtplib.SMTPConnectError, aiosmtplib.SMTPConnectTimeoutError) as error:
        raise Unreachable(f"can't reach the SMTP server: {error}") from None
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise PlatformUnavailable(f"can't reach the SMTP server: {error}") from None


def failure(error: aiosmtplib.SMTPResponseException) -> PlatformError:
    text = f"the SMTP server says {said(error)}"
    if error.code >= PERMANENT:
        return RequestRejected(text, error.code, str(error.code))
    if SLOW_DOWN.search(error.message):
        return RateLimited(text, SLOW_DOWN_S)
    return PlatformUnavailable(text)


def said(error: aiosmtplib.SMTPResponseException) -> str:
    return f"{error.code} {error.message}"
