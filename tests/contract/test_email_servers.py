"""The e-mail adapter and mail servers that are not as Dovecot is: scripted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


async def heard(says: Mapping[str, Sequence[str]], refuses: Mapping[str, str]) -> list[str]:
    """What the server heard until all was read."""
    async with (
        imap_script(says, refuses) as script,
        platform.connect(account(script)) as connection,
    ):
        async for _batch in connection.read("", 0):
            pass
        return script.heard


class TestFolders:
    @pytest.mark.parametrize("untold", ["UIDNEXT", "UIDVALIDITY"])
    async def test_mails_without_numbers_are_told_of(self, untold: str) -> None:
        """And not taken for none [S3]."""
        told = tuple(line for line in ONE_MAIL["EXAMINE"] if untold not in line)
        with pytest.raises(PlatformUnavailable, match=untold):
            await heard({"EXAMINE": told}, {})

    async def test_empty_folder_needs_no_next_number(self) -> None:
        said = ("* 0 EXISTS", "* OK [UIDVALIDITY 7] ok")
        async with (
            imap_script({"EXAMINE": said}) as script,
            platform.connect(account(script)) as connection,
        ):
            before = [batch.cursor async for batch in connection.read("", 0)][-1]
            script.says.update(ONE_MAIL)
            gaps = [batch.gaps async for batch in connection.read(before or "", 0)]
        assert gaps
        assert "UID FETCH" in " ".join(script.heard)

    async def test_closed_inbox_tells_why(self) -> None:
        with pytest.raises(PlatformUnavailable, match="Unsafe Login"):
            await heard({}, {"EXAMINE": "NO Unsafe Login. Please contact us"})


class TestIntroduction:
    @pytest.mark.parametrize("refuses", [{}, {"ID": "BAD what?"}])
    async def test_who_asks_for_it_is_told_before_a_folder_opens(
        self, refuses: dict[str, str]
    ) -> None:
        commands = await heard({"CAPABILITY": ("* CAPABILITY IMAP4rev1 ID",)}, refuses)
        assert commands.index('ID ("name" "Muster")') < commands.index('EXAMINE "INBOX"')

    async def test_nobody_else_is(self) -> None:
        assert not any(one.startswith("ID") for one in await heard({}, {}))


class TestEncryption:
    async def test_what_was_said_in_the_plain_is_not_taken_for_encrypted(self) -> None:
        """Somebody in between puts lines behind the answer, in one packet."""
        says = {"CAPABILITY": ("* CAPABILITY IMAP4rev1 STARTTLS",)}
        early = {"STARTTLS": "OK begin\r\n* CAPABILITY IMAP4rev1\r\nM3 OK mine"}
        async with imap_script(says, early) as script:
            with pytest.raises(PlatformUnavailable, match="before the encryption"):
                async with platform.connect(account(script)) as connection:
                    await anext(aiter(connection.read("", 0)))
