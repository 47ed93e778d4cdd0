"""A Telegram bot on a double of the Bot API, for the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from sync.platforms.base import Platform
from sync.platforms.telegram import platform as telegram
from sync.types import AccountRef, Attachment
from tests.contract.suite.stage import Ability, Sent, Stage
from tests.contract.suite.wire import wire_to
from tests.doubles.process import DoubleProcess, free_port
from tests.pushed.requests import TELEGRAM

AT_ONCE = 500


class TelegramStage(Stage):
    platform: ClassVar[Platform] = telegram
    largest: ClassVar[int] = 4096
    lacks: ClassVar[Mapping[Ability, str]] = {
        Ability.HISTORY: "an update that was confirmed is gone",
        Ability.DELETIONS: "bots are not told of deletions",
        Ability.INVITATIONS: "a bot is added, and then it is there",
        Ability.GAPS: "updates come in order, the oldest first",
        Ability.PROGRESS: "nothing counts updates while they are polled",
        Ability.STALE_CURSORS: "any number is an offset",
        Ability.READS_ON: "all that it still has is what nobody has read",
        Ability.SESSIONS: "the token is all there is",
        Ability.OWN_ENTRIES: "a bot is not told what it wrote itself",
    }

    @classmethod
    def has(cls, ability: Ability) -> bool:
        """A bot can't read back what it sent: replies have tests of their own."""
        return ability is not Ability.REPLIES and super().has(ability)

    def __init__(self, double: DoubleProcess, port: int) -> None:
        self.double = double
        self.account = AccountRef(
            account_id=1,
            platform="telegram",
            identifier="@sales_bot",
            endpoint=f"http://127.0.0.1:{port}",
            credentials={"bot_token": TELEGRAM["bot_token"]},
            session={},
        )
        wrong: dict[str, object] = {"bot_token": "123456:wrong-token-that-nobody-was-given"}
        self.wrong = replace(self.account, credentials=wrong)
        self.away = replace(self.account, endpoint=f"http://127.0.0.1:{free_port()}")

    async def thread(self) -> str:
        return str(await self.double.order("chat"))

    async def say(self, thread: str, text: str) -> str:
        return await self._say(thread, {"text": text})

    async def _say(self, thread: str, content: dict[str, object]) -> str:
        made = await self.double.order("say", chat=int(thread), contents=[content])
        return str(made[0])

    async def say_many(self, thread: str, texts: Iterable[str]) -> None:
        contents = [{"text": text} for text in texts]
        for start in range(0, len(contents), AT_ONCE):
            some = contents[start : start + AT_ONCE]
            await self.double.order("say", chat=int(thread), contents=some)

    async def edit(self, thread: str, entry: str, text: str) -> None:
        message = int(entry.split("/")[1])
        await self.double.order("edit", chat=int(thread), message=message, text=text)

    async def send_file(self, thread: str) -> Sent:
        document = {"file_id": "AgAD", "file_name": "图 a.png", "mime_type": "image/png"}
        entry = await self._say(thread, {"document": {**document, "file_size": 7}})
        return Sent(entry, Attachment("telegram:AgAD", "图 a.png", "image/png", 7))

    async def texts(self, thread: str) -> list[str]:
        return list(await self.double.order("texts", chat=int(thread)))

    async def lock_out(self) -> None:
        await self.double.order("revoke")

    async def kill(self) -> None:
        self.double.kill()

    async def restart(self, clock_offset_s: float = 0) -> None:
        self.double.kill()
        await self.double.start(clock_offset_s)


@asynccontextmanager
async def telegram_stage(folder: Path) -> AsyncIterator[TelegramStage]:
    async with DoubleProcess("telegram", folder) as double, wire_to(double.port) as wire:
        stage = TelegramStage(double, wire.port)
        stage.wire = wire
        yield stage
