"""The e-mail adapter and mail servers that are not as Dovecot is: scripted ones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sync.errors import PlatformUnavailable, RequestRejected
from sync.platforms.email import platform
from sync.types import AccountRef
from tests.contract.imap_script import ImapScript, imap_script

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEADER = b"Message-ID: <a@x>\r\nFrom: ann@x.org\r\n\r\n".decode()
ONE_MAIL = {
    "EXAMINE": ("* 1 EXISTS", "* OK [UIDVALIDITY 7] ok", "* OK [UIDNEXT 2] ok"),
    "UID SEARCH": ("* SEARCH 1",),
    "UID FETCH": (
        '* 1 FETCH (UID 1 INTERNALDATE "01-Mar-2026 12:00:00 +0000" '
        f"BODY[HEADER] {{{len(HEADER)}}}\r\n{HEADER})",
    ),
}


def account(script: ImapScript) -> AccountRef:
    return AccountRef(
        account_id=1,
        platform="email",
        identifier="sales@example.org",
        endpoint=f"imap://127.0.0.1:{script.port}",
        credentials={"username": "sales@example.org", "password": "p"},
        session={"sent": "Sent"},
    )


class TestMarks:
    async def mark(self, refuses: dict[str, str]) -> list[str]:
        async with (
            imap_script(ONE_MAIL, refuses) as script,
            platform.connect(account(script)) as connection,
        ):
            await connection.mark_read("a@x", "a@x", NOON)
            return script.heard

    async def test_mails_are_flagged(self) -> None:
        assert "UID STORE 1 +FLAGS.SILENT (\\Seen)" in await self.mark({})

    @pytest.mark.parametrize("verb", ["UID STORE", "SELECT", "UID SEARCH"])
    @pytest.mark.parametrize(
        "answer",
        ["NO [NOPERM] Permission denied", "NO read-only", "NO [OVERQUOTA] full", "BAD what?"],
    )
    async def test_mailbox_that_takes_no_flags(self, verb: str, answer: str) -> None:
        """A shared one, or a delegated one: the mark is refused, and nothing else stops."""
        with pytest.raises(RequestRejected, match=answer.split()[-1].strip("?")):
            await self.mark({verb: answer})

    async def test_server_that_says_later(self) -> None:
        with pytest.raises(PlatformUnavailable, match="backend"):
            await self.mark({"UID STORE": "NO [UNAVAILABLE] backend is away"})
