"""What the suite needs of a platform: one watched account on a real server, and somebody else.

A *thread* is a conversation or a post, an *entry* a message in it or a comment below it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import ClassVar, TypeVar

import pytest

from sync.platforms.base import Platform
from sync.types import AccountRef, Attachment, OutgoingReply, RecordKind
from tests.contract.suite.wire import Wire

AT_ONCE = 8


class Ability(Enum):
    """What a platform can do or not by its nature. Tests that need what it lacks aren't collected.

    The first five follow from what its `Platform` says, some are for messages or for comments only;
    every other one is there unless the stage's `lacks` says why not.
    """

    WAITS = auto()  # can_wait
    REPLIES = auto()  # replies_to has the stage's kind
    SENDS_ONCE = auto()
    LISTS = auto()  # lists_ids
    MARKS_READ = auto()

    HISTORY = auto()  # what was read can be read again
    EDITS = auto()
    DELETIONS = auto()
    ATTACHMENTS = auto()
    INVITATIONS = auto()  # the account enters conversations that others invite it to
    TREES = auto()  # an entry may answer another one
    GAPS = auto()  # reading begins at the newest end, and leaves gaps that backfill closes
    PROGRESS = auto()  # it tells how much is still to be read
    STALE_CURSORS = auto()  # a cursor of ours may be one that it doesn't know any more
    LATE_DELETIONS = auto()  # a deletion is told also where the cursor was lost meanwhile
    READS_ON = auto()  # where a cursor is lost, what was known long ago needn't be read again
    SESSIONS = auto()  # login gives something that can be ended apart from the credentials
    OWN_ENTRIES = auto()  # what the account writes elsewhere can be read
    SAME_TEXT_TWICE = auto()  # it takes two entries that say the same


@dataclass(frozen=True, slots=True)
class Sent:
    """An entry with a file that somebody sent."""

    entry: str
    attachment: Attachment


class Stage(ABC):
    """One watched account on a real server, and somebody who writes to it.

    Every test has a stage of its own; the server may be shared with stages before and after it.
    """

    platform: ClassVar[Platform]
    kind: ClassVar[RecordKind] = RecordKind.MESSAGE  # of its entries; or COMMENT
    lacks: ClassVar[Mapping[Ability, str]] = {}  # with the reason, which is the platform's nature
    largest: ClassVar[int]  # bytes of text that fit into one entry
    backlog: ClassVar[int] = 10_000
    many: ClassVar[int] = 620  # more than one batch, and than any platform's page
    old: ClassVar[int] = 450  # many times what comes with a page that we know already
    overflow: ClassVar[int] = 620  # so many news that one answer leaves a gap [GAPS]

    account: AccountRef  # reaches the server through `wire`
    wrong: AccountRef  # the same with credentials that are not right
    away: AccountRef  # the same on a server that isn't there
    wire: Wire

    @property
    def sending_wire(self) -> Wire:
        """The wire that replies go through, where it is another one than for reading."""
        return self.wire

    # --- writing, by somebody else unless it says so; all return external ids ---

    @abstractmethod
    async def thread(self) -> str:
        """A new conversation of the account and somebody else, or a new post of the account."""

    @abstractmethod
    async def say(self, thread: str, text: str) -> str:
        """A new entry of somebody else."""

    async def say_many(self, thread: str, texts: Iterable[str]) -> None:
        """Many entries of somebody else, in any order; as fast as the server allows."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def say(text: str) -> None:
            async with gate:
                await self.say(thread, text)

        await asyncio.gather(*(say(text) for text in texts))

    async def say_as_account(self, thread: str, text: str) -> str:
        """A new entry that the account itself writes, on another device [OWN_ENTRIES]."""
        raise NotImplementedError

    async def edit(self, thread: str, entry: str, text: str) -> None:
        """[EDITS]"""
        raise NotImplementedError

    async def delete(self, thread: str, entry: str) -> None:
        """[DELETIONS]"""
        raise NotImplementedError

    async def answer(self, thread: str, parent: str, text: str) -> str:
        """A new entry below another one [TREES]."""
        raise NotImplementedError

    async def send_file(self, thread: str) -> Sent:
        """A new entry with a file [ATTACHMENTS]."""
        raise NotImplementedError

    async def invite(self) -> str:
        """A conversation that the account is only invited to [INVITATIONS]."""
        raise NotImplementedError

    # --- looking, past the adapter ---

    @abstractmethod
    async def texts(self, thread: str) -> list[str]:
        """What the platform itself says is in the thread."""

    async def is_read(self, thread: str, entry: str) -> bool:
        """Whether the platform knows that the account has read up to the entry [MARKS_READ]."""
        raise NotImplementedError

    # --- trouble ---

    async def log_out(self, session: dict[str, object]) -> None:
        """End the session from elsewhere; the credentials stay good [SESSIONS]."""
        raise NotImplementedError

    @abstractmethod
    async def lock_out(self) -> None:
        """End all sessions and change the password, from elsewhere."""

    def stale(self, cursor: str) -> str:
        """`cursor` as it would be if the platform had forgotten it [STALE_CURSORS]."""
        raise NotImplementedError

    @abstractmethod
    async def kill(self) -> None:
        """Kill the server with SIGKILL."""

    @abstractmethod
    async def restart(self, clock_offset_s: float = 0) -> None:
        """End the server if it runs, and start it again at the same address and with all it kept;
        its clock goes wrong by that much (`tests.contract.suite.clock`)."""

    async def go_back_in_time(self) -> None:
        """Until the next restart what is said is older than any margin for clocks [READS_ON]."""
        await self.restart(-30 * 86_400)

    # --- made of the above ---

    def reply(self, thread: str, text: str, key: str, parent: str = "") -> OutgoingReply:
        """What an operator wants to say in the thread."""
        now = datetime.now(UTC)
        if self.kind is RecordKind.COMMENT:
            return OutgoingReply(key, text, now, post_id=thread, parent_id=parent)
        return OutgoingReply(key, text, now, conversation_id=thread)

    @classmethod
    def has(cls, ability: Ability) -> bool:
        """Whether the platform has it, for this kind of entries."""
        are_comments = cls.kind is RecordKind.COMMENT
        thread = RecordKind.POST if are_comments else RecordKind.CONVERSATION
        from_platform = {
            Ability.WAITS: cls.platform.can_wait,
            Ability.REPLIES: thread in cls.platform.replies_to,
            Ability.SENDS_ONCE: cls.platform.sends_once,
            Ability.LISTS: cls.platform.lists_ids,
            Ability.MARKS_READ: cls.platform.marks_read,
        }
        is_of_kind = {
            Ability.MARKS_READ: not are_comments,
            Ability.ATTACHMENTS: not are_comments,
            Ability.INVITATIONS: not are_comments,
            Ability.TREES: are_comments,
        }
        has_it = from_platform.get(ability, ability not in cls.lacks)
        return has_it and is_of_kind.get(ability, True)


Test = TypeVar("Test", bound=Callable[..., object])


def needs(*abilities: Ability) -> Callable[[Test], Test]:
    """Mark a test of the suite as one for platforms with these abilities."""

    def mark(test: Test) -> Test:
        test.needs = abilities  # type: ignore[attr-defined]
        return test

    return mark


@pytest.mark.anyio
@pytest.mark.timeout(300)
class Subject:
    """A part of the suite. A platform's class is `class TestX(PlatformContract, stage=XStage)`."""

    def __init_subclass__(cls, stage: type[Stage] | None = None, **others: object) -> None:
        super().__init_subclass__(**others)
        if stage is None:
            return
        assert all(stage.lacks.values()), "what a platform lacks has a reason"
        for name in dir(cls):
            wanted: tuple[Ability, ...] = getattr(getattr(cls, name), "needs", ())
            if not all(stage.has(ability) for ability in wanted):
                setattr(cls, name, None)  # pytest collects what can be called
