"""A platform in one file, and a check that runs one errand against it."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from django.utils import timezone

from sync import services, store
from sync.errands.base import Errand
from sync.models import Account
from sync.platforms.base import Tell
from sync.schedule import Pace
from sync.services import Run
from sync.types import (
    NOTHING_DONE,
    AccountRef,
    Batch,
    Done,
    Lease,
    Listing,
    MessageRecord,
    OutgoingReply,
    Receipt,
    RecordKind,
    Refused,
)
from tests.db.sync_stage import TinyConnection, TinyPlatform, message
from tests.threads import alongside


async def pass_by(_point: str) -> None:
    return None


class OutboxPlatform(TinyPlatform):
    """Keeps what was sent in a file, so that it outlives a worker that is killed.

    `at` is called at each point of a sending: "before find", "before send", "sent" (the platform
    has it, nobody knows yet).
    """

    label: ClassVar[str] = "Outbox"
    replies_to: ClassVar[frozenset[RecordKind]] = frozenset(
        {RecordKind.CONVERSATION, RecordKind.POST, RecordKind.COMMENT}
    )
    longest_reply: ClassVar[int] = 1000
    lists_ids: ClassVar[bool] = True

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.at: Callable[[str], Any] = pass_by
        self.held: dict[str, MessageRecord | Refused] = {}  # what it holds, by id
        self.versions: dict[str, str] = {}
        self.windows: list[tuple[datetime, datetime]] | None = None  # newest first
        self.goes_on = True  # a listing begins below what was listed before
        self.listed: list[tuple[datetime, datetime]] = []
        self.fetched: list[str] = []
        self.on_login_with: Callable[[Tell], Any] | None = None

    @property
    def sent(self) -> list[dict[str, str]]:
        """What its people see of us, in order."""
        text = self.file.read_text() if self.file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    @property
    def texts(self) -> list[str]:
        return [one["text"] for one in self.sent]

    @asynccontextmanager
    async def connect(self, account: AccountRef) -> AsyncIterator[OutboxConnection]:
        yield OutboxConnection(self, account)


class OutboxConnection(TinyConnection):
    platform: OutboxPlatform

    async def login(self, tell: Tell) -> dict[str, object]:
        if self.platform.on_login_with is None:
            return await super().login(tell)
        session: dict[str, object] = await self.platform.on_login_with(tell)
        self.session = session
        return session

    async def send(self, reply: OutgoingReply) -> str:
        await self.platform.at("before send")
        external_id = f"sent-{len(self.platform.sent) + 1}"
        line = json.dumps({"key": reply.key, "text": reply.text, "id": external_id})
        with self.platform.file.open("a") as file:
            file.write(line + "\n")
        await self.platform.at("sent")
        return external_id

    async def find_sent(self, reply: OutgoingReply) -> str | None:
        await self.platform.at("before find")
        return next((one["id"] for one in self.platform.sent if one["key"] == reply.key), None)

    async def list_ids(self, since: datetime, done: Done = NOTHING_DONE) -> AsyncIterator[Listing]:
        reached = done.get((RecordKind.MESSAGE, ""))
        for begin, end in self.platform.windows or [(since, timezone.now())]:
            if reached and self.platform.goes_on and begin >= reached.since:
                continue
            self.platform.listed.append((begin, end))
            ids = {
                one.external_id: self.platform.versions.get(one.external_id, "")
                for one in self.platform.held.values()
                if isinstance(one, Refused) or begin <= one.sent_at < end
            }
            yield Listing(RecordKind.MESSAGE, "", begin, end, ids)

    async def fetch(self, kind: RecordKind, scope: str, ids: Sequence[str]) -> AsyncIterator[Batch]:
        assert kind is RecordKind.MESSAGE
        self.platform.fetched += ids
        found = [self.platform.held[one] for one in ids if one in self.platform.held]
        yield Batch(
            None,
            tuple(one for one in found if isinstance(one, MessageRecord)),
            tuple(one for one in found if isinstance(one, Refused)),
        )

    def holds(self, *numbers: int) -> None:
        for number in numbers:
            one = message(number)
            self.platform.held[one.external_id] = one


@dataclass
class ErrandCheck:
    """What an errand sees of a check; the database is used by the thread that `perform` is called
    in, so that the test's own transaction holds."""

    run: Run
    platform: OutboxPlatform
    connection: OutboxConnection
    calls: queue.Queue[Any] = field(default_factory=queue.Queue)
    sequence: int = 0

    async def store(self, batch: Batch, within: Callable[[Receipt], None] | None = None) -> Receipt:
        receipt: Receipt = await self.in_database(
            store.ingest_batch, self.run.lease, self.sequence, batch, "w", within
        )
        self.sequence = receipt.sequence
        return receipt

    async def in_database(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        answer: Future[Any] = Future()
        self.calls.put((answer, function, args, kwargs))
        return await asyncio.wrap_future(answer)


def check_of(account: Account, platform: OutboxPlatform) -> ErrandCheck:
    account.refresh_from_db()
    ref = AccountRef(account.pk, "tiny", account.identifier, "", {}, dict(account.session))
    run = Run(
        lease=Lease(account.pk, account.epoch), ref=ref, worker_id="w", cursor="",
        sequence=account.sequence, backlog=None, pace=Pace(30, 300), work=frozenset(),
    )  # fmt: skip
    return ErrandCheck(run, platform, OutboxConnection(platform, ref), sequence=account.sequence)


def perform(errand: Errand, account: Account, platform: OutboxPlatform) -> None:
    """Run the errand to its end. Raises what it raises."""
    drive(lambda check: errand(check), check_of(account, platform))


def drive(work: Callable[[Any], Any], check: ErrandCheck) -> None:
    """Run a coroutine on a loop of its own thread, and its database calls here."""

    def loop() -> None:
        try:
            asyncio.run(work(check))
        finally:
            check.calls.put(None)

    with alongside(loop, patience_s=5):
        while (call := check.calls.get()) is not None:
            answer, function, args, kwargs = call
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                answer.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised again where it was asked
                answer.set_exception(error)


def due(account: Account) -> bool:
    account.refresh_from_db()
    return account.next_due_at <= datetime.now(UTC)


__all__ = ["OutboxPlatform", "check_of", "drive", "due", "perform", "services"]
