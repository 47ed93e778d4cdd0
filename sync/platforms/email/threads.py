"""Finding a conversation's mails, and single mails by their ids, in an account's folders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sync.platforms.email.answers import Literal
from sync.platforms.email.headers import Headers
from sync.platforms.email.imap import Folder
from sync.platforms.email.letter import (
    SUBJECT_HOST,
    conversation_id,
    external_id,
    sent_at,
)
from sync.platforms.email.mailbox import Fields, Mailbox, data, received_at
from sync.platforms.listing import Dated

THREADING = ("Message-ID", "References", "In-Reply-To")
WITHOUT_ID = (b"NOT HEADER Message-ID", b'""')
HEADER = b"UID INTERNALDATE BODY.PEEK[HEADER]"
SHORT = b"UID INTERNALDATE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE)]"
SHORT_FIELD = "BODY[HEADER.FIELDS (MESSAGE-ID DATE)]"
DIGEST = "sha256-"
AT_ONCE = 200  # mails whose headers are asked for with one command
IDS_AT_ONCE = 20  # in one SEARCH
# Servers compare dates without times, in a zone of their own.
ZONES = timedelta(days=2)
EARLIEST = datetime(1970, 1, 5, tzinfo=UTC)
STEP = timedelta(days=30)  # of an audit, doubled where nothing is
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


@dataclass(frozen=True, slots=True)
class Found:
    """A mail of a conversation."""

    folder: Folder
    uid: int
    external_id: str
    sent_at: datetime
    headers: Headers


async def conversation(
    mailbox: Mailbox, name: str, conversation: str, *, writable: bool = False
) -> list[Found]:
    """The conversation's mails in one folder, the oldest first. Raises `Refusal`."""
    folder = await mailbox.look(name, writable=writable)
    if folder is None:
        return []
    imap = await mailbox.imap()
    uids: set[int] = set()
    for criteria in ways_to_find(conversation):
        uids.update(await imap.search(*criteria))
    found = [
        one
        async for one in _mails(mailbox, folder, sorted(uids))
        if conversation_id(one.headers) == conversation
    ]
    return sorted(found, key=lambda one: (one.sent_at, one.uid))


def ways_to_find(conversation: str) -> list[tuple[bytes | Literal, ...]]:
    """Searches that find at least all mails of a conversation (RFC 3501 6.4.4)."""
    if conversation.startswith(DIGEST) and not conversation.endswith(f"@{SUBJECT_HOST}"):
        return [(b"ALL",)]  # an id that no column could hold: the mails have to be looked at
    named = Literal(conversation.encode())
    ways: list[tuple[bytes | Literal, ...]] = [
        (b"HEADER", one.encode(), named) for one in THREADING
    ]
    return [*ways, WITHOUT_ID] if conversation.endswith(f"@{SUBJECT_HOST}") else ways


async def _mails(mailbox: Mailbox, folder: Folder, uids: Sequence[int]) -> AsyncIterator[Found]:
    for start in range(0, len(uids), AT_ONCE):
        some = await mailbox.fields(folder, uids[start : start + AT_ONCE], HEADER)
        for uid, fields in some.items():
            raw = data(fields.get("BODY[HEADER]"))
            headers = Headers(raw)
            when = sent_at(headers, received_at(fields))
            yield Found(folder, uid, external_id(headers, raw), when, headers)


async def has_mail(mailbox: Mailbox, name: str, message_id: str) -> bool:
    if await mailbox.look(name) is None:
        return False
    named = Literal(message_id.encode())
    return bool(await (await mailbox.imap()).search(b"HEADER Message-ID", named))


async def locate(
    mailbox: Mailbox, name: str, ids: Collection[str]
) -> tuple[Folder | None, list[int]]:
    """The folder, entered, and the UIDs of those of these mails that are in it."""
    folder = await mailbox.look(name)
    if folder is None:
        return None, []
    imap = await mailbox.imap()
    uids: set[int] = set()
    told = [one for one in ids if not one.startswith(DIGEST)]
    for start in range(0, len(told), IDS_AT_ONCE):
        uids.update(await imap.search(*any_of(told[start : start + IDS_AT_ONCE])))
    if len(told) < len(ids):
        candidates = await imap.search(*WITHOUT_ID)
        found = [one async for one in _mails(mailbox, folder, candidates)]
        uids.update(one.uid for one in found if one.external_id in ids)
    return folder, sorted(uids)


def any_of(ids: Sequence[str]) -> list[bytes | Literal]:
    """A search for mails with one of these ids: OR takes two."""
    criteria: list[bytes | Literal] = [b"OR"] * (len(ids) - 1)
    for one in ids:
        criteria += [b"HEADER Message-ID", Literal(one.encode())]
    return criteria


async def dated_ids(
    mailbox: Mailbox,
    names: Sequence[str],
    since: datetime,
    sent_before: datetime,
    *,
    is_rest: bool = False,
) -> AsyncIterator[tuple[list[Dated], datetime]]:
    """When each mail of the folders since then was sent, and its id, by the time of arrival, the
    newest first: no mail was sent after it arrived (`letter.sent_at`). Some come with each answer:
    many may have arrived on one day, as in a mailbox that was moved here.

    `is_rest`: of those that arrived later than `sent_before`, only what was sent before.
    """
    beginning = max(since, EARLIEST) - ZONES
    until, step, edge = None, STEP, sent_before
    if is_rest:
        until = max(sent_before + ZONES, beginning)
        for name in names:
            some = await _arrived(mailbox, name, until, sent_before=until + ZONES)
            async for late in _dated(mailbox, name, some):
                yield [one for one in late if one[0] >= since], edge
    todo = [
        (name, uid) for name in names for uid in await _arrived(mailbox, name, beginning, until)
    ]
    left = set(todo)
    while left:
        begin, is_empty = max((until or sent_before) - step, beginning), True
        for name in names:
            some = await _arrived(mailbox, name, begin, until)
            left -= {(name, uid) for uid in some}
            async for found in _dated(mailbox, name, some):
                yield [one for one in found if one[0] >= since], edge
                is_empty = False
        edge = min(edge, begin + ZONES)
        yield [], edge
        if begin == beginning:
            return
        until, step = begin, step * 2 if is_empty else step


async def _arrived(
    mailbox: Mailbox,
    name: str,
    begin: datetime,
    until: datetime | None = None,
    sent_before: datetime | None = None,
) -> list[int]:
    """The UIDs of mails by their day of arrival, as the server's zone has it. The folder is
    entered. `sent_before`: without those whose own date says that they were sent later."""
    if await mailbox.look(name) is None:
        return []
    criteria = f"SINCE {day(begin)}" + (f" BEFORE {day(until)}" if until else "")
    if sent_before:
        criteria += f" NOT SENTSINCE {day(sent_before)}"
    return await (await mailbox.imap()).search(criteria.encode())


async def _dated(mailbox: Mailbox, name: str, uids: Sequence[int]) -> AsyncIterator[list[Dated]]:
    for start in range(0, len(uids), AT_ONCE):
        # Anew each time: whoever was told of the last ones may have entered another.
        if (folder := await mailbox.look(name)) is None:
            return
        some = await mailbox.fields(folder, uids[start : start + AT_ONCE], SHORT)
        yield [(when, one, "") for when, one in await _told(mailbox, folder, some)]


def day(moment: datetime) -> str:
    return f"{moment.day}-{MONTHS[moment.month - 1]}-{moment.year}"


async def _told(
    mailbox: Mailbox, folder: Folder, some: dict[int, Fields]
) -> Iterable[tuple[datetime, str]]:
    """Most mails say it in two lines; of those without an id the whole header is needed."""
    told, nameless = [], []
    for uid, fields in some.items():
        headers = Headers(data(fields.get(SHORT_FIELD)))
        if headers.ids("Message-ID"):
            told.append((sent_at(headers, received_at(fields)), external_id(headers, b"")))
        else:
            nameless.append(uid)
    if nameless:
        async for one in _mails(mailbox, folder, nameless):
            told.append((one.sent_at, one.external_id))
    return told
