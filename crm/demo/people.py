"""The people of the demo: two accounts that are watched, and four who talk to them."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx

from crm.demo.script import DESKS, LINES, PEOPLE, Desk, Person, long_story
from crm.demo.synapse import Synapse
from sync.errors import PlatformUnavailable, RequestRejected
from sync.platforms.matrix import wire
from sync.platforms.matrix.client import MatrixClient

BURST = 50
# An event may take 65,536 bytes (Matrix spec, "Size limits"), the envelope included.
PART_BYTES = 60_000
STORY_BYTES = 1_050_000
PAUSE_S = (2.0, 6.0)
TOO_LARGE = "M_TOO_LARGE"

Say = Callable[[str], None]


@dataclass
class Talker:
    """A person who is logged in."""

    person: Person
    client: MatrixClient

    async def say(self, room: str, text: str) -> None:
        content = {"msgtype": "m.text", "body": text}
        await self.client.send(room, "m.room.message", content, uuid.uuid4().hex)


class People:
    """Everybody's part in the demo. What they have done is kept, so that a later run goes on.

    `passwords` are by username.
    """

    def __init__(self, server: Synapse, passwords: dict[str, str], state: Path, say: Say) -> None:
        self._server = server
        self._passwords = passwords
        self._state = state
        self._say = say
        self._rooms: dict[str, str] = {}
        self._talkers: dict[str, Talker] = {}

    async def talk(self, ending: asyncio.Event) -> None:
        """Set the scene the first time, then a message every few seconds until `ending`.

        Raises `sync.errors.PlatformError` when the homeserver fails for longer than a moment.
        """
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx.AsyncClient(base_url=self._server.url))
            for person in PEOPLE:
                client = MatrixClient(http)
                password = self._passwords[person.username]
                client.token = (await client.login(person.username, password, "")).access_token
                self._talkers[person.username] = Talker(person, client)
            await self._set_scene()
            self._say("four people talk on; a message every few seconds")
            await self._go_on(ending)

    async def _set_scene(self) -> None:
        done = json.loads(self._state.read_text()) if self._state.exists() else {}
        self._rooms = done.get("rooms", {})
        for person in PEOPLE:
            for desk in DESKS:
                await self._direct_room(person, desk)
        await self._group_room()
        if done.get("is_set"):
            return
        await self._greet()
        await self._burst()
        await self._tell_long_story()
        self._remember(is_set=True)

    async def _direct_room(self, person: Person, desk: Desk) -> None:
        if desk.username in person.talks_to:
            invited = [self._server.user_id(desk.username)]
            await self._room(
                f"{person.username}-{desk.username}", person, invite=invited, is_direct=True
            )

    async def _group_room(self) -> None:
        first, *others = PEOPLE
        usernames = [person.username for person in others] + [desk.username for desk in DESKS]
        invited = [self._server.user_id(username) for username in usernames]
        room = await self._room(
            "group", first, invite=invited, name="订单 · Orders · Pedidos · طلبات"
        )
        for person in others:
            await self._talkers[person.username].client.join(room)

    async def _room(self, key: str, owner: Person, **options: object) -> str:
        if key not in self._rooms:
            client = self._talkers[owner.username].client
            answer = await client.call(
                wire.Joined, "POST", "/createRoom", {"preset": "private_chat", **options}
            )
            self._rooms[key] = answer.room_id
            self._remember()
        return self._rooms[key]

    async def _greet(self) -> None:
        for person in PEOPLE:
            for desk in person.talks_to:
                for line in person.greeting:
                    await self._talkers[person.username].say(
                        self._rooms[f"{person.username}-{desk}"], line
                    )
        self._say("everybody has said hello, in English, Chinese, Arabic, Spanish and emoji")

    async def _burst(self) -> None:
        talker = self._talkers[PEOPLE[-1].username]
        await asyncio.gather(
            *(talker.say(self._rooms["group"], f"¡{n}/{BURST}!") for n in range(1, BURST + 1))
        )
        self._say(f"{talker.person.name} has sent {BURST} messages at once")

    async def _tell_long_story(self) -> None:
        """More than 1 MB: whole, which Matrix refuses, then in parts that it takes."""
        talker = self._talkers[PEOPLE[0].username]
        room = self._rooms[f"{talker.person.username}-{talker.person.talks_to[0]}"]
        story = long_story(STORY_BYTES)
        try:
            await talker.say(room, story)
        except RequestRejected as error:
            if error.code != TOO_LARGE:
                raise
            self._say(f"a message of {STORY_BYTES:,} bytes was refused, as Matrix says: {error}")
        parts = list(parts_of(story, PART_BYTES))
        for number, part in enumerate(parts, 1):
            await talker.say(room, f"({number}/{len(parts)}) {part}")
        self._say(f"the same in {len(parts)} parts of at most {PART_BYTES:,} bytes was taken")

    async def _go_on(self, ending: asyncio.Event) -> None:
        for number in count(1):
            try:
                await asyncio.wait_for(ending.wait(), random.uniform(*PAUSE_S))  # noqa: S311
            except TimeoutError:
                await self._one_more(number)
            else:
                return

    async def _one_more(self, number: int) -> None:
        person = random.choice(PEOPLE)  # noqa: S311 - who talks next is no secret
        line = random.choice(LINES[person.language])  # noqa: S311
        own = [f"{person.username}-{desk}" for desk in person.talks_to]
        key = random.choice([*own, "group"])  # noqa: S311
        try:
            await self._talkers[person.username].say(self._rooms[key], line)
        except PlatformUnavailable as error:
            self._say(f"{person.name} could not be heard: {error}")
            return
        self._say(f"{number}. {person.name} → {key}: {line}")

    def _remember(self, is_set: bool = False) -> None:
        draft = self._state.with_suffix(".new")
        draft.write_text(json.dumps({"rooms": self._rooms, "is_set": is_set}))
        draft.replace(self._state)


def parts_of(text: str, limit_bytes: int) -> Iterator[str]:
    """`text` in pieces that each take at most `limit_bytes` as JSON, cut between characters.

    Joined they are the text again.
    """
    piece: list[str] = []
    size = 0
    for character in text:
        width = len(json.dumps(character, ensure_ascii=False).encode()) - 2
        if piece and size + width > limit_bytes:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(character)
        size += width
    if piece:
        yield "".join(piece)
