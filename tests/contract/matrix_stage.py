"""Matrix accounts and people on a real homeserver, for the tests."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from crm.demo.synapse import Synapse, free_port
from sync.platforms.base import Platform
from sync.platforms.matrix import platform as matrix
from sync.platforms.matrix import wire
from sync.platforms.matrix.client import MatrixClient, segment
from sync.types import AccountRef

PASSWORD = "correct horse 正しい"


class Anything(wire.Wire):
    """An answer of which nothing is read."""


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


class MatrixStage:
    """See `platform_contract.Stage`. Every test has its own users."""

    platform: Platform = matrix
    largest = 60_000

    def __init__(self, server: Synapse, http: httpx.AsyncClient) -> None:
        self.server = server
        self._http = http

    async def open(self) -> None:
        self._tag = uuid.uuid4().hex[:8]
        self.friend = await self.person("friend", "Fränzi 王")
        self.watched = await self.person("watched", "Sales")
        credentials: dict[str, object] = {"username": f"watched-{self._tag}", "password": PASSWORD}
        self.account = AccountRef(
            account_id=1,
            platform="matrix",
            identifier=self.watched.user_id,
            endpoint=self.server.url,
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

    async def conversation(self) -> str:
        room = await self.invite()
        await self.watched.client.join(room)
        return room

    async def invite(self) -> str:
        return await self.friend.create_room(
            preset="private_chat", invite=[self.watched.user_id], is_direct=True
        )

    async def say(self, conversation: str, text: str) -> str:
        return await self.friend.send(conversation, {"msgtype": "m.text", "body": text})

    async def say_as_account(self, conversation: str, text: str) -> str:
        return await self.watched.send(conversation, {"msgtype": "m.text", "body": text})

    async def edit(self, conversation: str, message: str, text: str) -> None:
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": message}
        await self.friend.send(
            conversation,
            {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation},
        )

    async def delete(self, conversation: str, message: str) -> None:
        path = f"/rooms/{segment(conversation)}/redact/{segment(message)}/{uuid.uuid4().hex}"
        await self.friend.client.call(wire.Sent, "PUT", path, {})

    async def log_out(self, session: dict[str, object]) -> None:
        await Person(MatrixClient(self._http, str(session["access_token"])), "").post("/logout")

    async def texts(self, conversation: str) -> list[str]:
        path = f"/rooms/{segment(conversation)}/messages"
        params = {"dir": "b", "limit": "1000"}
        answer = await self.friend.client.call(wire.MessagesAnswer, "GET", path, params=params)
        events = [wire.Event.model_validate(raw) for raw in answer.chunk]
        return [str(e.content.get("body")) for e in events if e.type == "m.room.message"]


@asynccontextmanager
async def matrix_stage(server: Synapse) -> AsyncIterator[MatrixStage]:
    limits = httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=server.url, limits=limits) as http:
        stage = MatrixStage(server, http)
        await stage.open()
        yield stage
