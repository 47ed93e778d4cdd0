"""[S3-S6, S9, S10, S12] Whatever dies while 20,000 records arrive from a platform that fails:
what is stored is what the platform holds, row for row; unread is a recount; each reply was sent
once; and a console that reconnected 50 times was told of all of it, in order, once.

`make test` kills each thing a few times, `make chaos` for MUSTER_CHAOS_MINUTES. The seed is
printed; MUSTER_CHAOS_SEED brings the same kills again.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from django.utils import timezone
from psycopg.rows import dict_row

from tests.chaos.feed_reader import FeedReader
from tests.chaos.sync_truth import differences, held, stored
from tests.e2e.driving import add_worker, api_of
from tests.e2e.system import System
from tests.fake.process import FakeServer
from tests.waiting import eventually, eventually_nothing

MINUTES = float(os.environ.get("MUSTER_CHAOS_MINUTES") or 0)
SHORT_SEED = 4  # the short form has the same kills each time
CHANCE = secrets.randbelow(10**6) if MINUTES else SHORT_SEED
SEED = int(os.environ.get("MUSTER_CHAOS_SEED") or CHANCE)
RECORDS = 20_000
USERS = {"u1": "fake", "u2": "fake", "u3": "fake-keyed", "u4": "fake-keyed"}
WORKERS = ("sync-1", "sync-2", "sync-3")
VICTIMS = ("worker", "master", "postgres", "broker", "agent", "web", "platform", "worker")
ROUNDS = 3 * len(VICTIMS)
RECONNECTS = 50
# A server's breaker and a reply's next attempt may both wait for 5 min after the last fault.
CAUGHT_UP_S = 600.0
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(MINUTES * 60 + CAUGHT_UP_S + 900)]
LOOK_EACH_S = 1.0  # a look at everything costs the platform and the database
SHOWN = 20  # rows of each kind
ACCOUNTS = """
    SELECT id, identifier, worker_id, epoch, next_due_at, claimed_generation, cursor, sequence,
           login_state, last_sync_at, current_interval_s, backlog, audit_due_at, complete_until,
           last_error, last_error_at, error_count
    FROM sync_account ORDER BY id"""
FAULTS = {
    "error_500": 0.05,
    "rate_limit": 0.02,
    "expire": 0.02,
    "slow": 0.05,
    "slow_s": 0.5,
    "half": 0.05,
    "lost_answer": 0.05,
    "duplicates": 0.2,
    "reorder": 0.3,
    "large": 0.01,
}


class Scene:
    """A system, a platform that fails, accounts of it, and what dies."""

    def __init__(self, system: System, server: FakeServer, client: httpx.Client) -> None:
        self.system, self.server, self.client = system, server, client
        self.chance = random.Random(SEED)
        self.accounts = {user: self._account(user) for user in USERS}
        self.kills: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()  # of platform processes that are gone
        self.replies: list[int] = []

    def _account(self, user: str) -> int:
        self.server.control("add", user=user, password="a password", name="Sales")
        self.server.control("conversation", user=user)
        fields = {
            "platform": USERS[user],
            "identifier": user,
            "endpoint": self.server.url,
            "credentials": {"user": user, "password": "a password"},
            "interval_s": 5,
        }
        answer = self.client.post("/accounts", json=fields)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def arrive(self, number: int, records: int) -> None:
        """News for all accounts, of all kinds, some of them unreadable."""
        for user in USERS:
            part = records // len(USERS)
            self.server.control(
                "generate",
                user=user,
                seed=SEED * 1000 + number,
                prefix=f"r{number}-",
                conversations=5,
                posts=3,
                messages=part * 6 // 10,
                comments=part * 3 // 10,
                edits=part // 20,
                deletions=part // 40,
                unknown=2,
                malformed=2,
                disorder=40,
            )

    def reply(self) -> None:
        """Somebody answers, if the page is there just now."""
        with suppress(httpx.TransportError):
            page = self.client.get("/conversations", params={"page_size": "20"})
            for row in page.json()["results"][:2] if page.is_success else []:
                text = f"reply {len(self.replies)}"
                answer = self.client.post(
                    f"/conversations/{row['id']}/replies",
                    json={"text": text},
                    headers={"Idempotency-Key": f"{row['id']}-{text}"},
                )
                if answer.is_success:
                    self.replies.append(answer.json()["id"])

    def kill(self, victim: str) -> None:
        if victim == "platform":
            self.faults.update(self.server.control("happened"))
            self.server.kill()
            self.server.start()
            self.server.control("faults", **FAULTS)
        else:
            pid = self._pid(victim)
            if not pid:
                return
            os.kill(pid, signal.SIGKILL)
        self.kills[victim] += 1

    def _pid(self, victim: str) -> int | None:
        if victim == "worker":
            living = [pid for one in WORKERS if (pid := self.system.worker_pid(one))]
            return self.chance.choice(living) if living else None
        names = {"broker": "valkey"}
        return self.system.part(names.get(victim, victim)).get("pid")

    def missing(self) -> list[str]:
        """What keeps the store from holding what the platform holds, and replies that wait: for
        people, with the state of all that could be the cause. Empty when nothing does."""
        try:
            with self.system.database() as database:
                found = [
                    f"{user}: {difference}"
                    for user, account in self.accounts.items()
                    for difference in differences(
                        held(self.server, user)[0], stored(database, account)[0]
                    )[:SHOWN]
                ]
                found += rows(database, "SELECT * FROM sync_reply WHERE state = 'pending'")
                return found + (self._circumstances(database) if found else [])
        except psycopg.Error as error:
            return [f"database: {error}"]

    def _circumstances(self, database: psycopg.Connection[Any]) -> list[str]:
        return [
            f"now {timezone.now()}",
            *rows(database, ACCOUNTS),
            *rows(database, "SELECT * FROM sync_platformserver"),
            *rows(database, "SELECT * FROM lifecycle_workerruntime"),
        ]


def rows(database: psycopg.Connection[Any], statement: str) -> list[str]:
    """Each row as a line."""
    with database.cursor(row_factory=dict_row) as cursor:
        return [str(row) for row in cursor.execute(statement).fetchmany(SHOWN)]


@pytest.fixture
def scene(system: System, tmp_path: Path) -> Iterator[Scene]:
    with FakeServer(tmp_path) as server, api_of(system) as client:
        only_ours(client)
        server.control("faults", **FAULTS)
        yield Scene(system, server, client)


@pytest.fixture
def system(module_system: System) -> System:
    module_system.variables = {"MUSTER_PLATFORMS": "tests.fake,tests.fake.keyed"}
    module_system.up()
    return module_system


def only_ours(client: httpx.Client) -> None:
    """Workers that come back at once, however often they are killed."""
    for worker_id in WORKERS:
        add_worker(
            client,
            worker_id,
            auto_start=True,
            max_restart_attempts=1000,
            restart_delay_ms=200,
            max_accounts=4,
        )


def test_nothing_is_lost_and_nothing_is_there_twice(scene: Scene, system: System) -> None:
    print(f"seed {SEED}", flush=True)
    token = str(scene.client.headers["Authorization"]).partition(" ")[2]
    start = scene.client.get("/feed").raise_for_status().json()["position"]
    with system.database() as database:
        told_before = set(positions(database))
    chance = random.Random(SEED)
    with FeedReader(system.url, token, start, chance) as console:
        number = survive(scene, console)
        eventually(lambda: scene.client.get("/accounts").is_success, 60)
        eventually_nothing(scene.missing, CAUGHT_UP_S, LOOK_EACH_S)
        with system.database() as database:
            head = max(positions(database))
        console.read_to(head, eventually)
    scene.faults.update(scene.server.control("happened"))
    print(f"rounds {number}, kills {dict(scene.kills)}, faults {dict(scene.faults)}")

    with system.database() as database:
        for user, account in scene.accounts.items():
            check_account(scene, database, user, account)
        check_replies(scene, database)
        check_feed(console, database, told_before)
    done = system.manage("recount", "--only-look")
    assert done.returncode == 0, done.stdout + done.stderr


def survive(scene: Scene, console: FeedReader) -> int:
    """News and blows, until there were enough of both; the number of rounds. Then the platform
    works."""
    number = 0
    ends = time.monotonic() + MINUTES * 60
    while number < ROUNDS or console.connections < RECONNECTS or time.monotonic() < ends:
        scene.arrive(number, RECORDS // ROUNDS if number < ROUNDS else 200)
        scene.reply()
        scene.kill(VICTIMS[number % len(VICTIMS)])
        pause(scene.chance.uniform(0.2, 3.0))
        number += 1
    scene.server.control("faults")
    return number


def check_account(scene: Scene, database: psycopg.Connection[Any], user: str, account: int) -> None:
    truth, unreadable = held(scene.server, user)
    store, letters = stored(database, account)
    assert differences(truth, store) == []
    assert sorted(letters) == sorted(unreadable)
    runs = database.execute(
        "SELECT sequence, read = new + changed + same + refused FROM sync_syncrun"
        " WHERE account_id = %s AND outcome = 'committed' ORDER BY sequence",
        [account],
    ).fetchall()
    assert [row[0] for row in runs] == list(range(1, len(runs) + 1)), "a receipt for each batch"
    assert all(row[1] for row in runs)
    gaps = "SELECT count(*) FROM sync_gap WHERE account_id = %s AND closed_at IS NULL"
    assert database.execute(gaps, [account]).fetchone() == (0,)


def check_replies(scene: Scene, database: psycopg.Connection[Any]) -> None:
    """What was taken was sent, once."""
    keys = dict(database.execute("SELECT id, key::text FROM sync_reply WHERE state = 'sent'"))
    assert set(scene.replies) <= set(keys)
    sent: dict[str, list[str]] = {}
    for user in USERS:
        sent |= scene.server.control("truth", user=user)["sent"]
    assert {key: len(sent.get(key, [])) for key in keys.values()} == dict.fromkeys(keys.values(), 1)


def check_feed(
    console: FeedReader, database: psycopg.Connection[Any], told_before: set[int]
) -> None:
    told = [position for position, _changes in console.seen]
    assert told == sorted(set(told)), "in order, and once"
    # What an account says once it has recovered may come after the console was left.
    there = {position for position in positions(database) if position <= console.position}
    assert set(told) == there - told_before, "without a hole"
    new = [id for _, changes in console.seen for id in changes.get("message", {}).get("new", [])]
    ids = [row[0] for row in database.execute("SELECT id FROM sync_message ORDER BY id")]
    assert sorted(new) == ids, "each message is told as new exactly once"
    assert console.connections >= RECONNECTS
    assert "reset" not in console.told


def positions(database: psycopg.Connection[Any]) -> list[int]:
    rows = database.execute("SELECT position FROM sync_feedentry ORDER BY position").fetchall()
    return [row[0] for row in rows] or [0]


def pause(seconds: float) -> None:
    """Chance decides how far things go before the next blow: no condition is waited for."""
    time.sleep(seconds)
