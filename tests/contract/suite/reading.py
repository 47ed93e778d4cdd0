"""Logging in, reading, and what is known after several batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from sync.errors import PlatformUnavailable
from sync.platforms.base import Connection
from sync.types import (
    NOTHING_DONE,
    Batch,
    CommentRecord,
    ConversationRecord,
    Done,
    Listing,
    LoginStep,
    MessageRecord,
    OpenGap,
    PostRecord,
)
from tests.contract.suite.stage import Stage

ROW_LIMIT = 500
BYTE_LIMIT = 512 * 1024
NEVER = datetime.min.replace(tzinfo=UTC)

Entry = MessageRecord | CommentRecord
Thread = ConversationRecord | PostRecord


async def tell_nobody(_step: LoginStep) -> None:
    """Nobody watches this login."""


@asynccontextmanager
async def logged_in(stage: Stage) -> AsyncIterator[Connection]:
    """A new connection with a new session."""
    async with stage.platform.connect(stage.account) as connection:
        await connection.login(tell_nobody)
        yield connection


@asynccontextmanager
async def connected(stage: Stage, session: dict[str, object]) -> AsyncIterator[Connection]:
    """A new connection with a session that was there before."""
    async with stage.platform.connect(replace(stage.account, session=session)) as connection:
        yield connection


async def read(connection: Connection, cursor: str | None = "", wait_s: float = 0) -> list[Batch]:
    assert cursor is not None, "what is read has a cursor"
    async with aclosing(connection.read(cursor, wait_s)) as batches:  # type: ignore[type-var]
        return [batch async for batch in batches]


async def read_until_broken(connection: Connection, cursor: str) -> tuple[list[Batch], bool]:
    """As `drain`, of a whole read."""
    async with aclosing(connection.read(cursor, 0)) as batches:  # type: ignore[type-var]
        return await drain(batches)


async def drain(batches: AsyncIterator[Batch]) -> tuple[list[Batch], bool]:
    """The batches that still came, and whether the platform became unavailable on the way."""
    came: list[Batch] = []
    try:
        async for batch in batches:
            came.append(batch)
    except PlatformUnavailable:
        return came, True
    return came, False


async def listed(
    connection: Connection, since: datetime, done: Done = NOTHING_DONE
) -> list[Listing]:
    return [each async for each in connection.list_ids(since, done) if each is not None]


def last_cursor(batches: Iterable[Batch], before: str = "") -> str:
    """Where the next read begins after these batches were stored."""
    for batch in batches:
        before = before if batch.cursor is None else batch.cursor
    return before


def open_gaps(batches: Iterable[Batch]) -> tuple[OpenGap, ...]:
    """What is open after these batches were stored."""
    said = [batch.gaps for batch in batches if batch.gaps is not None]
    return said[-1] if said else ()


def threads(batches: Iterable[Batch]) -> dict[str, Thread]:
    """Conversations or posts by external id; the last one counts."""
    records = (record for batch in batches for record in batch.records)
    return {
        one.external_id: one for one in records if isinstance(one, ConversationRecord | PostRecord)
    }


def entries(batches: Iterable[Batch]) -> dict[str, Entry]:
    """Messages or comments by external id, as the store would have them after these batches: the
    earliest says who wrote it and when, the newest version what it says."""
    known: dict[str, Entry] = {}
    for batch in batches:
        for record in batch.records:
            if isinstance(record, MessageRecord | CommentRecord):
                before = known.get(record.external_id)
                known[record.external_id] = record if before is None else _joined(before, record)
    return known


def messages(batches: Iterable[Batch]) -> dict[str, MessageRecord]:
    return {id: one for id, one in entries(batches).items() if isinstance(one, MessageRecord)}


def conversations(batches: Iterable[Batch]) -> dict[str, ConversationRecord]:
    return {id: one for id, one in threads(batches).items() if isinstance(one, ConversationRecord)}


def texts(batches: Iterable[Batch]) -> set[str]:
    return {entry.text for entry in entries(batches).values()}


def written_at(entry: Entry) -> datetime:
    return entry.sent_at if isinstance(entry, MessageRecord) else entry.published_at


def author(entry: Entry) -> str:
    return entry.sender_name if isinstance(entry, MessageRecord) else entry.author_name


def thread_of(entry: Entry) -> str:
    return entry.conversation_id if isinstance(entry, MessageRecord) else entry.post_id


def _joined(earlier: Entry, later: Entry) -> Entry:
    origin = min(earlier, later, key=written_at)
    newest = max(later, earlier, key=_version)
    if isinstance(origin, MessageRecord) and isinstance(newest, MessageRecord):
        origin = replace(origin, content_type=newest.content_type, attachments=newest.attachments)
    return replace(
        origin, text=newest.text, edited_at=newest.edited_at, is_deleted=newest.is_deleted
    )


def _version(entry: Entry) -> tuple[bool, datetime]:
    return entry.is_deleted, entry.edited_at or NEVER
