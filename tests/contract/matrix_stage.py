"""Matrix accounts and people on a real homeserver, for the tests."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import ClassVar
from urllib.parse import urlsplit

import httpx

from crm.demo.synapse import Synapse, free_port
from sync.errors import RequestRejected
from sync.platforms.base import Platform
from sync.platforms.matrix import platform as matrix
from sync.platforms.matrix import wire
from sync.platforms.matrix.client import MatrixClient, segment
from sync.platforms.matrix.place import Place
from sync.types import AccountRef, Attachment
from tests.contract.suite.clock import skewed
from tests.contract.suite.stage import Ability, Sent, Stage
from tests.contract.suite.wire import Wire, wire_to

PASSWORD = "correct horse 正しい"


class Anything(wire.Wire):
    """An answer of which nothing is read."""


class FullyRead(wire.Wire):
    event_id: str


class Person:
    """A user of the homeserver who is logged in."""

    def __init__(self, client: MatrixClient, user_id: str) -> None:
        self.client = client
        self.user_id = user_id

    async def send(
        self, room: str, content: Mapping[str, object], kind: str = "m.room.message"
    ) -> str:
        return await self.client.send(room, kind, content, uuid.uuid4().hex)

    async def create_room(self, **options: object) -> str:
        return (await self.client.call(wire.Joined, "POST", "/createRoom", options)).room_id

    async def set_state(self, room: str, kind: str, content: dict[str, object]) -> str:
        path = f"/rooms/{segment(room)}/state/{kind}/"
        return (await self.client.call(wire.Sent, "PUT", path, content)).event_id

    async def post(self, path: str, **body: object) -> None:
        await self.client.call(Anything, "POST", path, body)


class MatrixStage(Stage):
    """Every test has its own users."""

    platform: ClassVar[Platform] = matrix
    largest: ClassVar[int] = 60_000
    overflow: ClassVar[int] = 60
    old: ClassVar[int] = 160
    # Synapse takes 50 messages a second; the full 10,000 only when asked for.
    backlog: ClassVar[int] = int(os.environ.get("MUSTER_TEST_BACKLOG", "1500"))
    lacks: ClassVar[Mapping[Ability, str]] = {
        Ability.PROGRESS: "no request of the Client-Server API counts messages"
    }

    def __init__(self, server: Synapse, http: httpx.AsyncClient, wire: Wire | None) -> None:
        self.server = server
        self._http = http
        self._endpoint = f"http://127.0.0.1:{wire.port}" if wire else server.url
        if wire:
            self.wire = wire

    async def open(self) -> None:
        self._tag = uuid.uuid4().hex[:8]
        self.friend = await self.person("friend", "Fränzi 王")
        self.watched = await self.person("watched", "Sales")
        credentials: dict[str, object] = {"username": f"watched-{self._tag}", "password": PASSWORD}
        self.account = AccountRef(
            account_id=1,
            platform="matrix",
            identifier=self.watched.user_id,
            endpoint=self._endpoint,
            credentials=credentials,
            session={},
        )
        wrong_credentials = {**credentials, "password": "wrong-password"}
        self.wrong = replace(self.account, credentials=wrong_credentials)
        self.away = replace(self.account, endpoint=f"http://127.0.0.1:{free_port()}")

    async def person(self, name: str, display_name: str = "") -> Person:
        username = f"{name}-{self._tag}"
        self.server.register(username, PASSWORD, display_name)
        client = MatrixClient(self._http)
        client.token = (await client.login(username, PASSWORD, "")).access_token
        return Person(client, self.server.user_id(username))

    async def thread(self) -> str:
        room = await self.invite()
        await self.watched.client.join(room)
        return room

    async def invite(self) -> str:
        return await self.friend.create_room(
            preset="private_chat", invite=[self.watched.user_id], is_direct=True
        )

    async def say(self, thread: str, text: str) -> str:
        return await self.friend.send(thread, {"msgtype": "m.text", "body": text})

    async def say_as_account(self, thread: str, text: str) -> str:
        return await self.watched.send(thread, {"msgtype": "m.text", "body": text})

    async def edit(self, thread: str, entry: str, text: str) -> None:
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": entry}
        await self.friend.send(
            thread,
            {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation},
        )

    async def delete(self, thread: str, entry: str) -> None:
        path = f"/rooms/{segment(thread)}/redact/{segment(entry)}/{uuid.uuid4().hex}"
        await self.friend.client.call(wire.Sent, "PUT", path, {})

    async def send_file(self, thread: str) -> Sent:
        content = {
            "msgtype": "m.image",
            "body": "see this",
            "filename": "图 a.png",
            "url": "mxc://demo.muster/abc",
            "info": {"mimetype": "image/png", "size": 7},
        }
        entry = await self.friend.send(thread, content)
        return Sent(entry, Attachment("mxc://demo.muster/abc", "图 a.png", "image/png", 7))

    async def is_read(self, thread: str, entry: str) -> bool:
        path = f"/user/{segment(self.watched.user_id)}/rooms/{segment(thread)}/account_data"
        try:
            said = await self.watched.client.call(FullyRead, "GET", f"{path}/m.fully_read")
        except RequestRejected:  # nothing was read yet
            return False
        order = [event.event_id for event in await self._events(thread)]
        return order.index(said.event_id) <= order.index(entry)

    async def lock_out(self) -> None:
        username = str(self.account.credentials["username"])
        auth = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": username},
            "password": PASSWORD,
        }
        await self.watched.post(
            "/account/password", new_password="another", logout_devices=True, auth=auth
        )

    def stale(self, cursor: str) -> str:
        return Place.parse(cursor).model_copy(update={"since": "nonsense"}).text()

    async def kill(self) -> None:
        assert self.server.pid
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.stop()

    async def restart(self, clock_offset_s: float = 0) -> None:
        await asyncio.to_thread(self.server.stop)
        self.server.environment = skewed(clock_offset_s)
        await asyncio.to_thread(self.server.start)

    async def go_back_in_time(self) -> None:
        """Its margin is a page of history, whatever the clocks say; and in the past Synapse takes
        seconds for each message."""

    async def log_out(self, session: dict[str, object]) -> None:
        await Person(MatrixClient(self._http, str(session["access_token"])), "").post("/logout")

    async def texts(self, thread: str) -> list[str]:
        events = await self._events(thread)
        return [str(e.content.get("body")) for e in events if e.type == "m.room.message"]

    async def _events(self, thread: str) -> list[wire.Event]:
        """The newest first."""
        path = f"/rooms/{segment(thread)}/messages"
        params = {"dir": "b", "limit": "1000"}
        answer = await self.friend.client.call(wire.MessagesAnswer, "GET", path, params=params)
        return [wire.Event.model_validate(raw) for raw in answer.chunk]


@asynccontextmanager
async def matrix_stage(server: Synapse, wire: Wire | None = None) -> AsyncIterator[MatrixStage]:
    """`wire`: what the account goes through; without, it talks to the server itself."""
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=server.url, limits=limits) as http:
        stage = MatrixStage(server, http, wire)
        await stage.open()
        yield stage


@asynccontextmanager
async def wired_matrix_stage(server: Synapse) -> AsyncIterator[MatrixStage]:
    """A stage of which the wire can break."""
    async with (
        wire_to(urlsplit(server.url).port or 0) as line,
        matrix_stage(server, line) as stage,
    ):
        yield stage
