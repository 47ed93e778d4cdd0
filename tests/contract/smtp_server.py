"""A provider's SMTP server for tests: it asks who sends, and all mail goes to Dovecot by LMTP."""

from __future__ import annotations

import smtplib
import ssl
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from crm.demo.synapse import free_port

LARGEST = 64 * 1024 * 1024


class Relay:
    """Takes mail for those who log in, and refuses recipients at `refused.example`."""

    def __init__(self, lmtp_port: int) -> None:
        self.lmtp_port = lmtp_port
        self.passwords: dict[str, str] = {}
        self.taken = 0  # mails
        self.answer_to_mail = ""  # instead of taking the next one

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, said: object
    ) -> AuthResult:
        assert isinstance(said, LoginPassword)
        known = self.passwords.get(said.login.decode())
        good = known is not None and known.encode() == said.password
        return AuthResult(success=good, handled=False)

    async def handle_RCPT(
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        if address.endswith("@refused.example"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self.answer_to_mail:
            answer, self.answer_to_mail = self.answer_to_mail, ""
            return answer
        deliver(self.lmtp_port, envelope.mail_from or "", envelope.rcpt_tos, envelope.content)
        self.taken += 1
        return "250 OK"


def deliver(lmtp_port: int, sender: str, people: list[str], mail: object) -> None:
    assert isinstance(mail, bytes)
    with smtplib.LMTP("127.0.0.1", lmtp_port) as lmtp:
        for one in people:  # smtplib knows nothing of LMTP's answer for each of several
            lmtp.sendmail(sender, [one], mail)


class SmtpServer:
    """In threads of its own: plain, with STARTTLS, and encrypted from the start, on three ports."""

    def __init__(self, relay: Relay, context: ssl.SSLContext) -> None:
        common: dict[str, Any] = {
            "hostname": "127.0.0.1",
            "data_size_limit": LARGEST,
            "authenticator": relay.authenticate,
            "auth_required": True,
            "auth_require_tls": False,
        }
        self.port, self.starttls_port, self.tls_port = (free_port() for _ in range(3))
        self._servers = [
            Controller(relay, port=self.port, **common),
            Controller(relay, port=self.starttls_port, tls_context=context, **common),
            Controller(relay, port=self.tls_port, ssl_context=context, **common),
        ]

    def start(self) -> None:
        for server in self._servers:
            server.start()

    def stop(self) -> None:
        for server in self._servers:
            server.stop()
