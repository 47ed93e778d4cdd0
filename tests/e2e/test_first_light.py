"""The main job, end to end: a real chat server, real workers, and a kill -9 in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
import pytest

from crm.demo.synapse import Synapse
from sync.types import AccountRef
from tests.contract.matrix_stage import PASSWORD, MatrixStage, Person, matrix_stage
from tests.e2e.driving import add_account, add_worker, api_of, everything
from tests.e2e.system import System
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

MESSAGES = 200
WORKERS = ("light-1", "light-2")


@pytest.fixture
def client(system: System) -> Iterator[httpx.Client]:
    with api_of(system) as made:
        yield made


def account_of(server: Synapse, username: str, password: str = PASSWORD) -> AccountRef:
    return AccountRef(
        account_id=0,
        platform="matrix",
        identifier=server.user_id(username),
        endpoint=server.url,
        credentials={"username": username, "password": password},
        session={},
    )


async def talk(
    server: Synapse,
    connect: Callable[[MatrixStage, Person, Person], None],
    in_the_middle: Callable[[], None],
) -> list[str]:
    """Four people write to two watched accounts; the ids of all that was written."""
    async with matrix_stage(server) as stage:
        desks = [await stage.person("desk-a"), await stage.person("desk-b")]
        people = [await stage.person(f"person-{n}") for n in range(4)]
        rooms = [
            (person, await person.create_room(preset="private_chat", invite=[desk.user_id]))
            for person in people
            for desk in desks
        ]
        await asyncio.to_thread(connect, stage, *desks)
        sent = []
        for number in range(MESSAGES):
            person, room = rooms[number % len(rooms)]
            body = f"message {number}: grüße, 你好, مرحبا"
            sent.append(await person.send(room, {"msgtype": "m.text", "body": body}))
            if number == MESSAGES // 2:
                await asyncio.to_thread(in_the_middle)
        return sent


def is_synced(client: httpx.Client, account_id: int) -> bool:
    return bool(client.get(f"/accounts/{account_id}").json()["last_sync_at"])


def test_every_message_lands_once_though_a_worker_is_killed(
    system: System, client: httpx.Client, homeserver: Synapse
) -> None:
    """[S3, S4, L6] Exactly what was sent is in the store, and the worker runs again."""
    killed: list[int] = []

    def connect(_stage: MatrixStage, *desks: Person) -> None:
        for worker_id in WORKERS:
            add_worker(client, worker_id, auto_start=True, max_accounts=1)
        names = [desk.user_id.split(":")[0].removeprefix("@") for desk in desks]
        for name in names:
            added = add_account(client, account_of(homeserver, name))
            eventually(partial(is_synced, client, added))

    def kill_a_worker() -> None:
        killed.append(system.running_worker(WORKERS[0]))
        os.kill(killed[0], signal.SIGKILL)

    sent = asyncio.run(talk(homeserver, connect, kill_a_worker))
    assert len(set(sent)) == MESSAGES
    eventually(lambda: client.get("/inbox/summary").json()["messages"] >= MESSAGES, 60)
    stored = Counter(row["external_id"] for row in everything(client, "/messages"))
    assert stored == Counter(sent)
    conversations = everything(client, "/conversations")
    assert sum(row["unread_count"] for row in conversations) == MESSAGES
    assert system.running_worker(WORKERS[0]) != killed[0]
    assert client.get(f"/workers/{WORKERS[0]}/status").json()["restart_count"] == 1


def test_a_wrong_password_and_a_server_that_is_away_show_on_the_account_only(
    system: System, client: httpx.Client, homeserver: Synapse
) -> None:
    """The account shows the error and its login state, the worker stays up, others go on."""
    pid = system.running_worker()
    homeserver.register("wrong", "right password")
    wrong = account_of(homeserver, "wrong", "not this one")
    away = replace(account_of(homeserver, "away"), endpoint="http://127.0.0.1:9")
    ids = {"wrong": add_account(client, wrong), "away": add_account(client, away)}

    def shown(name: str) -> dict[str, Any]:
        row: dict[str, Any] = client.get(f"/accounts/{ids[name]}").json()
        return row if row["last_error"] else {}

    assert eventually(lambda: shown("wrong"))["login_state"] == "failed"
    assert eventually(lambda: shown("away"))["error_count"] >= 1
    now = client.get("/workers/worker-1/status").json()
    assert (now["status"], now["process_id"]) == ("running", pid)
