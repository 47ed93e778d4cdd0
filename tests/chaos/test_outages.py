"""The database, and the broker, are away for real: frozen, killed, back. Nothing else dies of it,
nobody floods a log, all is back within seconds of the return, and nothing is lost [L5, L10, S4]."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.chaos.feed_reader import FeedReader
from tests.chaos.sync_truth import differences, held, stored
from tests.e2e.driving import add_worker, api_of
from tests.e2e.prepared import prepare
from tests.e2e.servers import Servers
from tests.e2e.system import System
from tests.fake.process import FakeServer
from tests.waiting import eventually, eventually_nothing

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FROZEN_S = 3.0
AWAY_S = 12.0  # longer than every step of a back-off, and than the wait for a connection
# A wait of at most 10 s and what follows; up to three times that where others use the machine.
BACK_S = 15.0
RENEWED_S = 45.0  # leases are renewed each 30 s; work that waits is seen then
MOST_CROWDED = 3.0
USERS = {"u1": "fake", "u2": "fake-keyed"}
WORKERS = ("worker-1", "threads", "prefork")
# Of each part and worker: that it is away, that it is back, and what it then did.
MOST_LINES = 30
SILENT = """
    SELECT config.worker_id FROM lifecycle_workerruntime runtime
    JOIN lifecycle_workerconfig config ON config.id = runtime.config_id
    WHERE last_heartbeat_at < %s OR state <> 'running'"""


class Scene:
    """A system that keeps accounts of the fake platform in step, and what it said and did."""

    def __init__(
        self, system: System, servers: Servers, platform: FakeServer, client: httpx.Client
    ) -> None:
        self.system, self.servers, self.platform, self.client = system, servers, platform, client
        self.accounts = {user: self._account(user) for user in USERS}
        self._news = 0

    def _account(self, user: str) -> int:
        self.platform.control("add", user=user, password="a password", name="Sales")
        fields = {
            "platform": USERS[user],
            "identifier": user,
            "endpoint": self.platform.url,
            "credentials": {"user": user, "password": "a password"},
            "interval_s": 5,
        }
        return int(self.client.post("/accounts", json=fields).raise_for_status().json()["id"])

    def arrive(self) -> None:
        """News for all accounts."""
        self._news += 1
        for user in USERS:
            self.platform.control(
                "generate",
                user=user,
                seed=self._news,
                prefix=f"n{self._news}-",
                conversations=2,
                posts=1,
                messages=20,
                comments=5,
                edits=0,
                deletions=0,
                unknown=0,
                malformed=0,
                disorder=0,
            )

    def database(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.servers.urls["DATABASE_URL"], connect_timeout=5)

    def missing(self, *users: str) -> list[str]:
        """What the platform holds and the store does not."""
        with self.database() as database:
            return [
                f"{user}: {difference}"
                for user in users or USERS
                for difference in differences(
                    held(self.platform, user)[0], stored(database, self.accounts[user])[0]
                )
            ]

    def reply(self, user: str) -> int:
        """Queue one in a conversation of the account."""
        only = {"account": self.accounts[user]}
        found = self.client.get("/conversations", params=only).raise_for_status().json()
        place = f"/conversations/{found['results'][0]['id']}/replies"
        answer = self.client.post(place, json={"text": "hello"}).raise_for_status()
        return int(answer.json()["id"])

    def is_sent(self, reply: int) -> bool:
        answer = self.client.get(f"/replies/{reply}").raise_for_status()
        return bool(answer.json()["state"] == "sent")

    def late(self, since: datetime) -> list[str]:
        """What is not back yet: readiness of the web, heartbeats since then, news."""
        try:
            answer = self.client.get(f"{self.system.url}/readyz", timeout=5)
        except httpx.HTTPError as error:
            return [f"web: {error!r}"]
        found = [] if answer.is_success else [answer.text]
        with self.database() as database:
            rows = database.execute(SILENT, [since]).fetchall()
        return [*found, *(f"no heartbeat of {row[0]}" for row in rows), *self.missing()]

    def alive(self) -> dict[str, int | None]:
        """The pid of each part and worker."""
        parts = ("agent", "web", "beat", "flower", "master")
        pids = {name: self.system.part(name).get("pid") for name in parts}
        return pids | {name: self.system.worker_pid(name) for name in WORKERS}

    def lines(self) -> Counter[str]:
        """How many lines each log has."""
        logs = self.system.home / "logs"
        return Counter({str(p.relative_to(logs)): len(_lines(p)) for p in logs.rglob("*.log")})

    def said(self, name: str, after: int) -> list[str]:
        """The lines of a log after the first ones, but for those that tell of requests."""
        lines = _lines(self.system.home / "logs" / name)[after:]
        return [line for line in lines if '"request": ' not in line]


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()


@pytest.fixture(scope="module")
def scene(module_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    servers = Servers(module_home.parent / "servers")
    system = System(module_home)
    system.variables = servers.urls | {"MUSTER_PLATFORMS": "tests.fake,tests.fake.keyed"}
    try:
        prepare(servers.folder)
        for name in ("postgres", "valkey"):
            servers.start(name)
        system.up()
        with FakeServer(tmp_path_factory.mktemp("fake")) as platform, api_of(system) as client:
            for pool in WORKERS[1:]:
                add_worker(client, pool, auto_start=True, pool=pool, concurrency=1)
            for worker_id in WORKERS:
                eventually(partial(system.worker_pid, worker_id))
            made = Scene(system, servers, platform, client)
            made.arrive()
            eventually_nothing(made.missing, 30)
            yield made
    finally:
        system.kill_everything()
        servers.end()


@contextmanager
def console(scene: Scene) -> Iterator[FeedReader]:
    token = str(scene.client.headers["Authorization"]).partition(" ")[2]
    start = scene.client.get("/feed").raise_for_status().json()["position"]
    with FeedReader(scene.system.url, token, start, random.Random(1)) as reader:
        reader._patient.set()
        yield reader


@contextmanager
def outage(scene: Scene, name: str) -> Iterator[None]:
    """Frozen, then killed; started again when the block is left."""
    scene.servers.send(name, signal.SIGSTOP)
    pause(FROZEN_S)
    scene.servers.send(name, signal.SIGKILL)
    scene.servers.processes[name].wait()
    begun = time.monotonic()
    try:
        yield
        pause(AWAY_S - (time.monotonic() - begun))
    finally:
        scene.servers.start(name)


def pause(seconds: float) -> None:
    """So long something is away: no condition is waited for."""
    time.sleep(max(0.0, seconds))


def back(scene: Scene, check: Callable[[], list[str]], before: Counter[str]) -> None:
    """All is well again in time; if not, what everybody said is shown."""
    begun = time.monotonic()
    crowd = os.getloadavg()[0] / (os.cpu_count() or 1)
    try:
        eventually_nothing(check, BACK_S * min(max(crowd, 1.0), MOST_CROWDED))
    except AssertionError:
        for name in scene.lines():
            print(f"--- {name}", *scene.said(name, before[name])[:MOST_LINES], sep="\n")
        raise
    print(f"back after {time.monotonic() - begun:.1f} s")


def check_calm(scene: Scene, before: Counter[str]) -> None:
    """No log has grown by more than a few lines, and no traceback was printed again and again."""
    said = {name: scene.said(name, before[name]) for name in scene.lines()}
    print({name: len(lines) for name, lines in said.items() if lines})
    found = [
        f"{name}: {len(lines)} lines\n" + "\n".join(lines[:MOST_LINES])
        for name, lines in said.items()
        if len(lines) > MOST_LINES
    ]
    assert not found, "\n".join(found)
    tracebacks = Counter(
        (name, line.partition("Traceback (most")[0][:60])
        for name, lines in said.items()
        for line in lines
        if "Traceback (most" in line
    )
    assert not {what: times for what, times in tracebacks.items() if times > 1}


def test_a_database_that_is_away_costs_nothing_but_the_time(scene: Scene) -> None:
    before, lines = scene.alive(), scene.lines()
    del before["master"]  # it gives its lead up, ends, and is started again
    with console(scene) as reader:
        with outage(scene, "postgres"):
            scene.arrive()
        now = datetime.now(UTC)
        back(scene, partial(scene.late, now), lines)
        with scene.database() as database:
            row = database.execute("SELECT max(position) FROM sync_feedentry").fetchone()
        assert row
        reader.read_to(row[0], eventually)
        check_calm(scene, lines)
    assert before.items() <= scene.alive().items()


def test_a_broker_that_is_away_costs_nothing_but_the_time(scene: Scene) -> None:
    """What waits for news goes on meanwhile, and sends what somebody replies; what is polled
    waits."""
    before, lines, log = scene.alive(), scene.lines(), "master.log"
    with outage(scene, "valkey"):
        scene.arrive()
        eventually(lambda: "takes no checks" in str(scene.said(log, lines[log])), BACK_S)
        reply = scene.reply("u1")
        eventually(partial(scene.is_sent, reply), RENEWED_S)
        scene.arrive()
        eventually_nothing(partial(scene.missing, "u1"), BACK_S)
    back(scene, scene.missing, lines)
    check_calm(scene, lines)
    assert scene.alive() == before
