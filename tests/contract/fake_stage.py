"""Accounts on the fake platform, for the suite and for whoever needs a platform that fails."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar

from crm.demo.synapse import free_port
from sync.platforms.base import Platform
from sync.types import AccountRef, Attachment, RecordKind
from tests.contract.suite.clock import skewed
from tests.contract.suite.stage import Ability, Sent, Stage
from tests.contract.suite.wire import Wire, wire_to
from tests.fake import keyed, platform
from tests.fake.adapter import Place
from tests.fake.process import FakeServer

PASSWORD = "correct horse 正しい"


class FakeStage(Stage):
    """Messages of the fake. Every test has its own user."""

    platform: ClassVar[Platform] = platform
    largest: ClassVar[int] = 2 * 1024 * 1024
    lacks: ClassVar[Mapping[Ability, str]] = {
        Ability.INVITATIONS: "its conversations are entered by being in them"
    }

    def __init__(self, server: FakeServer, wire: Wire) -> None:
        self.server, self.wire = server, wire
        self.user = f"watched-{uuid.uuid4().hex[:8]}"
        self.control("add", password=PASSWORD, name="Sales")
        self.account = AccountRef(
            account_id=1,
            platform=self.platform.name,
            identifier=self.user,
            endpoint=f"http://127.0.0.1:{wire.port}",
            credentials={"user": self.user, "password": PASSWORD},
            session={},
        )
        wrong: dict[str, object] = {"user": self.user, "password": "wrong-password"}
        self.wrong = replace(self.account, credentials=wrong)
        self.away = replace(self.account, endpoint=f"http://127.0.0.1:{free_port()}")

    def control(self, command: str, **given: Any) -> Any:
        return self.server.control(command, user=self.user, **given)

    async def thread(self) -> str:
        return str(self.control("conversation")["id"])

    async def say(self, thread: str, text: str) -> str:
        return str(self.control("say", thread=thread, text=text)["id"])

    async def say_many(self, thread: str, texts: Iterable[str]) -> None:
        self.control("say_many", thread=thread, texts=list(texts))

    async def say_as_account(self, thread: str, text: str) -> str:
        return str(self.control("say", thread=thread, text=text, own=True)["id"])

    async def edit(self, thread: str, entry: str, text: str) -> None:
        self.control("edit", id=entry, text=text)

    async def delete(self, thread: str, entry: str) -> None:
        self.control("delete", id=entry)

    async def answer(self, thread: str, parent: str, text: str) -> str:
        return str(self.control("say", thread=thread, text=text, parent=parent)["id"])

    async def send_file(self, thread: str) -> Sent:
        file = {"url": "https://fake.example/a", "name": "图.png", "media_type": "image/png"}
        said = self.control("say", thread=thread, text="see this", files=[file])
        return Sent(said["id"], Attachment(file["url"], file["name"], file["media_type"]))

    async def texts(self, thread: str) -> list[str]:
        found: list[str] = self.control("texts", thread=thread)
        return found

    async def is_read(self, thread: str, entry: str) -> bool:
        truth = self.control("truth")
        said = truth["read"].get(thread)
        in_order = [one["id"] for one in truth["message"].values() if one["thread"] == thread]
        return said is not None and in_order.index(entry) <= in_order.index(said)

    async def log_out(self, session: dict[str, object]) -> None:
        self.control("log_out")

    async def lock_out(self) -> None:
        self.control("log_out")
        self.control("set_password", password="another")

    def stale(self, cursor: str) -> str:
        place = Place.parse(cursor)
        return place.model_copy(update={"since": f"9{place.since}"}).text()

    async def kill(self) -> None:
        self.server.kill()

    async def restart(self, clock_offset_s: float = 0) -> None:
        self.server.kill()
        await asyncio.to_thread(self.server.start, skewed(clock_offset_s))


class FakeCommentsStage(FakeStage):
    """Comments of the same platform."""

    kind: ClassVar[RecordKind] = RecordKind.COMMENT

    async def thread(self) -> str:
        return str(self.control("post")["id"])


class KeyedFakeStage(FakeStage):
    """Messages of the one that is polled and sends once."""

    platform: ClassVar[Platform] = keyed.platform


@asynccontextmanager
async def fake_stage(
    server: FakeServer, stage: type[FakeStage] = FakeStage
) -> AsyncIterator[FakeStage]:
    async with wire_to(server.port) as wire:
        yield stage(server, wire)
