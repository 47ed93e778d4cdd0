"""The e-mail adapter against a real Dovecot: the contract, and what is e-mail's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from imaplib import Time2Internaldate
from pathlib import Path

import pytest

from sync.errors import LoginFailed, PlatformUnavailable, RateLimited, RequestRejected
from sync.merge import merge
from sync.platforms import listing
from sync.platforms.email import threads
from sync.types import AccountRef, Batch, Direction, RecordKind
from tests.contract.email_stage import SENT, EmailStage, Post, email_stage, id_of
from tests.contract.platform_contract import PlatformContract
from tests.contract.suite.reading import (
    conversations,
    entries,
    last_cursor,
    listed,
    logged_in,
    messages,
    read,
    tell_nobody,
    texts,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


@pytest.fixture
async def stage(
    post: Post,
    certificate: tuple[Path, Path],
    anyio_backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[EmailStage]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setattr("sync.platforms.email.sending.DELIVERY_S", 1.0)  # it delivers at once
    async with email_stage(post) as ready:
        yield ready


class TestEmailKeepsTheContract(PlatformContract, stage=EmailStage):
    pass


def with_credentials(stage: EmailStage, **changed: object) -> AccountRef:
    return replace(stage.account, credentials={**stage.account.credentials, **changed})


class TestLogin:
    @pytest.mark.parametrize("scheme", ["imap", "imaps"])
    async def test_encrypted_by_starttls_or_from_the_start(
        self, stage: EmailStage, scheme: str
    ) -> None:
        dovecot, smtp = stage.post.dovecot, stage.post.smtp
        port = dovecot.imaps_port if scheme == "imaps" else dovecot.imap_port
        stage.account = replace(
            with_credentials(
                stage,
                smtp=f"smtps://127.0.0.1:{smtp.tls_port}"
                if scheme == "imaps"
                else f"smtp://127.0.0.1:{smtp.starttls_port}",
            ),
            endpoint=f"{scheme}://127.0.0.1:{port}",
        )
        talk = await stage.thread()
        await stage.say(talk, "hello")
        async with logged_in(stage) as connection:
            assert texts(await read(connection)) == {"hello"}
            await connection.send(stage.reply(talk, "answer", "key"))
        assert await stage.texts(talk) == ["answer"]

    async def test_certificate_that_nobody_vouches_for(
        self, stage: EmailStage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        async with stage.platform.connect(stage.account) as connection:
            with pytest.raises(PlatformUnavailable, match="certificate"):
                await connection.login(tell_nobody)

    async def test_wrong_smtp_password_shows_at_login(self, stage: EmailStage) -> None:
        account = with_credentials(stage, smtp_password="wrong-word")
        async with stage.platform.connect(account) as connection:
            with pytest.raises(LoginFailed, match="SMTP") as caught:
                await connection.login(tell_nobody)
        assert "wrong-word" not in str(caught.value)

    async def test_smtp_server_is_away(self, stage: EmailStage) -> None:
        account = with_credentials(stage, smtp="smtp://127.0.0.1:1")
        async with stage.platform.connect(account) as connection:
            with pytest.raises(PlatformUnavailable, match="SMTP"):
                await connection.login(tell_nobody)

    async def test_no_address_to_write_from(self, stage: EmailStage) -> None:
        account = replace(with_credentials(stage, username="sales"), identifier="sales")
        async with stage.platform.connect(account) as connection:
            with pytest.raises(LoginFailed, match="address"):
                await connection.login(tell_nobody)

    async def test_folder_of_sent_mails_is_found(self, stage: EmailStage) -> None:
        async with logged_in(stage) as connection:
            assert connection.session == {"sent": "Sent Items"}


HTML = (
    "<html><head><title>no</title></head><body><p>Dear <b>Sales</b>,</p>"
    '<p>see <a href="https://x.org/">here</a></p></body></html>'
)
BROKEN = [
    b"",
    b"no header at all, just words",
    b"Subject: =?nonsense?x?y?=\nContent-Type: multipart/mixed; boundary=\n\nabc",
    b'Content-Type: multipart/mixed; boundary="x"\n\n--x\nContent-Type: text/plain\n\nopen end',
    b"Content-Type: text/plain; charset=made-up\n\n\xff\xfe\x00nul",
    b"Content-Transfer-Encoding: base64\nContent-Type: text/html\n\n!!!PGI+",
    b"From: \xff\xfe <\xff@\xff>\nDate: never\nMessage-ID: <>\nReferences: <<>>\n\nx",
    b"Message-ID: <" + b"x" * 900 + b"@x>\nSubject: " + b"s" * 5000 + b"\n\nlong",
]


class TestMails:
    async def test_html_only_is_read_as_text(self, stage: EmailStage) -> None:
        mail = stage.mail("a@x", "")
        mail.set_content(HTML, subtype="html")
        await stage.deliver(mail.as_bytes())
        async with logged_in(stage) as connection:
            assert texts(await read(connection)) == {"Dear Sales,\n\nsee [here](https://x.org/)"}

    async def test_alternatives_and_files_around_a_text(self, stage: EmailStage) -> None:
        mail = stage.mail("a@x", "the text")
        mail.add_alternative(HTML, subtype="html")
        mail.add_attachment("a note", filename="note.txt")
        mail.add_attachment(stage.mail("b@x", "inside"))
        await stage.deliver(mail.as_bytes())
        async with logged_in(stage) as connection:
            (found,) = messages(await read(connection)).values()
        assert found.text == "the text"
        assert [one.media_type for one in found.attachments] == ["text/plain", "message/rfc822"]

    async def test_broken_ones_cost_no_neighbour(self, stage: EmailStage) -> None:
        talk = await stage.thread()
        before = await stage.say(talk, "before")
        await stage.say_raw(BROKEN)
        after = await stage.say(talk, "after")
        async with logged_in(stage) as connection:
            batches = await read(connection)
        found = messages(batches)
        refused = [one for batch in batches for one in batch.refused]
        assert {before, after} <= set(found)
        assert len(found) + len(refused) == len(BROKEN) + 2
        assert {"open end", "long"} <= texts(batches)
        assert all(one.raw and one.error for one in refused)

    async def test_big_files_stay_where_they_are(self, stage: EmailStage) -> None:
        mail = stage.mail("a@x", "see the file")
        mail.add_attachment(b"x" * 6_000_000, "video", "mp4", filename="v.mp4")
        await stage.deliver(mail.as_bytes())
        async with logged_in(stage) as connection:
            stage.wire.cut_answers_after(100_000)
            (found,) = messages(await read(connection)).values()
        assert stage.wire.broken == 0, "it was not fetched"
        assert found.attachments[0].size == 6_000_000

    async def test_text_that_is_too_large_is_refused_with_its_size(self, stage: EmailStage) -> None:
        talk = await stage.thread()
        await stage.say(talk, "before")
        large = stage.mail(talk, "")
        large.set_content("x" * 70 + "\n" * 1, cte="7bit")
        await stage.deliver(large.as_bytes() + b"y" * 70 + b"\r\n" + (b"z" * 70 + b"\r\n") * 70_000)
        async with logged_in(stage) as connection:
            batches = await read(connection)
        (refused,) = [one for batch in batches for one in batch.refused]
        assert "bytes" in refused.error
        assert refused.external_id == id_of(large)
        assert texts(batches) == {"before"}

    async def test_same_mail_in_both_folders_is_one(self, stage: EmailStage) -> None:
        mail = stage.mail("a@x", "to myself", sender=stage.address, to=stage.address)
        await stage.deliver(mail.as_bytes())
        with stage.imap() as imap:
            imap.append('"Sent Items"', "", "", mail.as_bytes())
        async with logged_in(stage) as connection:
            (found,) = entries(await read(connection)).values()
        assert getattr(found, "direction", None) is Direction.OUTBOUND

    async def test_nobody_takes_the_place_of_another(self, stage: EmailStage) -> None:
        """All who got a mail know its id."""
        first = stage.mail(talk := await stage.thread(), "what we wrote", sender=stage.address)
        with stage.imap() as imap:
            imap.append(f'"{SENT}"', "", "", first.as_bytes())
        async with logged_in(stage) as connection:
            (known,) = messages(batches := await read(connection)).values()
            another = stage.mail(talk, "pay to another account", to=stage.address)
            del another["Message-ID"]
            another["Message-ID"] = first["Message-ID"]
            await stage.deliver(another.as_bytes())
            batches += await read(connection, last_cursor(batches))
        merged = merge(Batch("", tuple(one for batch in batches for one in batch.records)))
        assert merged.messages == (known,)
        (letter,) = merged.refused
        assert known.external_id in letter.error
        assert "pay to another account" in letter.raw

    async def test_what_is_sent_elsewhere_shows_while_waiting(
        self, stage: EmailStage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """IDLE tells of the INBOX only."""
        monkeypatch.setattr("sync.platforms.email.reader.LONGEST_IDLE_S", 0.2)
        talk = await stage.thread()
        async with logged_in(stage) as connection:
            cursor = last_cursor(await read(connection))
            said = await stage.say_as_account(talk, "from my phone")
            assert list(entries(await read(connection, cursor, wait_s=20))) == [said]

    async def test_title_is_the_subject_without_re(self, stage: EmailStage) -> None:
        talk = await stage.thread()
        await stage.say(talk, "x")
        async with logged_in(stage) as connection:
            assert conversations(await read(connection))[talk].title == "订单 Orders"


class TestReplies:
    async def test_recipient_that_is_refused(self, stage: EmailStage) -> None:
        """All or nobody: and it is not among the sent mails."""
        mail = stage.mail(talk := await stage.thread(), "hello", sender="ann@refused.example")
        await stage.deliver(mail.as_bytes())
        async with logged_in(stage) as connection:
            reply = stage.reply(talk, "answer", "key")
            with pytest.raises(RequestRejected, match="no such user") as caught:
                await connection.send(reply)
            assert caught.value.status == 550
            assert await connection.find_sent(reply) is None

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            ("552 5.3.4 too big", RequestRejected),
            ("451 4.7.1 greylisted, rate limit", RateLimited),
            ("452 4.3.1 no space", PlatformUnavailable),
        ],
    )
    async def test_what_the_server_says(
        self, stage: EmailStage, answer: str, error: type[Exception]
    ) -> None:
        await stage.say(talk := await stage.thread(), "hello")
        async with logged_in(stage) as connection:
            stage.post.relay.answer_to_mail = answer
            with pytest.raises(error, match=answer[:8]):
                await connection.send(stage.reply(talk, "answer", "key"))

    async def test_conversation_without_a_mail(self, stage: EmailStage) -> None:
        async with logged_in(stage) as connection:
            with pytest.raises(RequestRejected, match="conversation"):
                await connection.send(stage.reply("nothing@x", "answer", "key"))

    async def test_account_without_smtp(self, stage: EmailStage) -> None:
        stage.account = with_credentials(stage, smtp="")
        await stage.say(talk := await stage.thread(), "hello")
        async with logged_in(stage) as connection:
            with pytest.raises(RequestRejected, match="SMTP"):
                await connection.send(stage.reply(talk, "answer", "key"))

    async def test_it_is_among_the_sent_mails_once(self, stage: EmailStage) -> None:
        await stage.say(talk := await stage.thread(), "hello")
        async with logged_in(stage) as connection:
            reply = stage.reply(talk, "answer", "key")
            assert await connection.send(reply) == await connection.send(reply)
        with stage.imap(folder='"Sent Items"') as imap:
            assert imap.search(None, "ALL")[1] == [b"1"]
        assert await stage.texts(talk) == ["answer"]

    async def test_thread_without_any_id(self, stage: EmailStage) -> None:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = stage.friend, stage.address, "Order"
        mail.set_content("no ids here")
        await stage.say_raw([mail.as_bytes()])
        async with logged_in(stage) as connection:
            batches = await read(connection)
            (talk,) = conversations(batches)
            await connection.send(stage.reply(talk, "answer", "key"))
            batches += await read(connection, last_cursor(batches))
        assert {one.conversation_id for one in messages(batches).values()} == {talk}
        assert texts(batches) == {"no ids here", "answer"}


class TestAudit:
    async def test_expunged_mail_is_not_listed_and_not_fetched(self, stage: EmailStage) -> None:
        talk = await stage.thread()
        gone, stays = await stage.say(talk, "gone"), await stage.say(talk, "stays")
        async with logged_in(stage) as connection:
            await read(connection)
            with stage.imap() as imap:
                imap.store("1", "+FLAGS", "(\\Deleted)")
                imap.expunge()
            since = datetime.now(UTC) - timedelta(days=1)
            listings = await listed(connection, since)
            fetched = [b async for b in connection.fetch(RecordKind.MESSAGE, talk, [gone, stays])]
        assert [id for each in listings for id in each.ids] == [stays]
        assert set(entries(fetched)) == {stays}
        assert all(batch.fetched for batch in fetched)

    async def test_years_of_mails_are_listed(self, stage: EmailStage) -> None:
        """Old ones, old ones that were imported lately, and new ones."""
        dates = {"2003-05-06": "2003-05-06", "2014-01-31": "2026-02-01", "2025-12-31": "2025-12-31"}
        with stage.imap() as imap:
            for written, arrived in dates.items():
                mail = stage.mail("a@x", written)
                del mail["Date"]
                mail["Date"] = datetime.fromisoformat(f"{written}T12:00:00+00:00")
                came = Time2Internaldate(datetime.fromisoformat(f"{arrived}T12:00:00+00:00"))
                imap.append("INBOX", "", came, mail.as_bytes())
        beginning = datetime(1970, 1, 1, tzinfo=UTC)
        async with logged_in(stage) as connection:
            known = messages(await read(connection))
            listings = await listed(connection, beginning)
        assert {f"{one.sent_at:%Y-%m-%d}" for one in known.values()} == set(dates)
        assert {id for each in listings for id in each.ids} == set(known)
        for each in listings:
            assert all(each.since <= known[id].sent_at < each.until for id in each.ids)

    async def test_mailbox_that_was_moved_here_in_a_day(
        self, stage: EmailStage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many arrived at once, each answer shows that it goes on; and who is told of a
        window may fetch from other folders before the next one."""
        monkeypatch.setattr(threads, "AT_ONCE", 4)
        monkeypatch.setattr(listing, "WINDOW", 6)
        arrivals = [datetime(2026, 2, 1, 12, tzinfo=UTC)] * 30
        arrivals += [datetime(2026, 1, day, 12, tzinfo=UTC) for day in range(1, 25)]
        with stage.imap() as imap:
            for number, arrived in enumerate(arrivals):
                mail = stage.mail("a@x", f"mail {number}")
                del mail["Date"]
                mail["Date"] = arrived - timedelta(days=number)
                imap.append("INBOX", "", Time2Internaldate(arrived), mail.as_bytes())
        beginning, silent, longest = datetime(1970, 1, 1, tzinfo=UTC), 0, 0
        ids: list[str] = []
        async with logged_in(stage) as connection:
            known = messages(await read(connection))
            async for each in connection.list_ids(beginning):
                silent = silent + 1 if each is None else 0
                longest = max(longest, silent)
                if each is not None:
                    ids += each.ids
                    fetched = connection.fetch(RecordKind.MESSAGE, "", list(each.ids))
                    assert entries([b async for b in fetched]).keys() == each.ids.keys()
        assert sorted(ids) == sorted(known)
        assert longest >= 30 / 4

    async def test_mail_without_an_id_is_found_by_its_digest(self, stage: EmailStage) -> None:
        await stage.say_raw([b"From: a@x\nSubject: s\n\nno id"])
        async with logged_in(stage) as connection:
            known = entries(await read(connection))
            batches = [b async for b in connection.fetch(RecordKind.MESSAGE, "", list(known))]
        assert entries(batches) == known

    async def test_dead_letter_is_read_again(self, stage: EmailStage) -> None:
        from sync.platforms.email.mailbox import INBOX

        await stage.say(await stage.thread(), "hello")
        async with logged_in(stage) as connection:
            (known,) = entries(await read(connection)).values()
            mailbox = connection._session_mailbox()  # type: ignore[attr-defined]
            folder = await mailbox.look(INBOX)
            ((letter,), _lowest) = await mailbox.letters(folder, [1])
        account = replace(stage.account, session=connection.session)
        refused = letter.refused("yesterday's code could not")
        assert known in stage.platform.reread(account, "message", refused.raw)
