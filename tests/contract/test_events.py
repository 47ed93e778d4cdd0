"""The feed as server-sent events, under uvicorn [S10]: in order, once, without a hole, whatever
breaks in between."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone
from knox.models import AuthToken

from sync import feed, store
from sync.live import hub
from sync.models import Account, Conversation
from sync.types import Batch
from tests.db.sync_stage import lease, make_account, message
from tests.sse import Events
from tests.threads import alongside
from tests.waiting import eventually

EVENTS = "/api/v1/events"
POOL = 8  # what a process may hold at most, and the hub's own


@pytest.fixture
def token(transactional_db: None) -> str:
    """A viewer, as migrated roles are gone with each transactional test: a superuser stands in."""
    made: str = AuthToken.objects.create(User.objects.create_superuser("root"))[1]
    return made


@pytest.fixture
def client(web: str, token: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Token {token}"}
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(
        base_url=web, headers=headers, timeout=20, trust_env=False, limits=limits
    ) as made:
        yield made


@pytest.fixture
def account(transactional_db: None) -> Account:
    return make_account()


class Feed(Events):
    def until(self, wanted: str) -> list[Any]:
        """The data of the changes before the first event of that name."""
        found: list[Any] = []
        for name, data in self.events():
            if name == wanted:
                return found
            found.append(data)
        raise AssertionError("the stream ended")

    def changes(self, count: int) -> list[Any]:
        """The data of the next so many changes, whatever else is said in between."""
        found: list[Any] = []
        for name, data in self.events():
            if name == "changes":
                found.append(data)
            if len(found) == count:
                return found
        raise AssertionError("the stream ended")


@contextmanager
def stream(client: httpx.Client, query: str = "", **headers: str) -> Iterator[Feed]:
    with client.stream("GET", f"{EVENTS}?{query}", headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"] == "text/event-stream"
        yield Feed(response)


def say(account: Account, *numbers: int) -> None:
    """A batch with these messages."""
    account.refresh_from_db()
    batch = Batch(cursor=f"after {numbers}", records=tuple(message(n) for n in numbers))
    store.ingest_batch(lease(account), account.sequence, batch)


def test_a_message_is_told_with_its_row_and_what_is_unread(
    client: httpx.Client, account: Account
) -> None:
    with stream(client) as console:
        assert console.until("live") == []
        say(account, 1, 2)
        (news,) = console.changes(1)
        talk = Conversation.objects.get()
        assert news["changes"]["message"]["new"] == sorted(
            talk.messages.values_list("pk", flat=True)
        )
        assert news["messages"] == {str(talk.pk): news["changes"]["message"]}
        (row,) = news["conversations"]
        assert (row["id"], row["unread_count"], row["last_message_text"]) == (talk.pk, 2, "text 2")
        assert news["unread"] == {
            "total": 2,
            "platforms": {"tiny": 2},
            "accounts": {str(account.pk): 2},
        }
        assert int(console.last) == news["position"]
        store.mark_read(talk.pk)
        (read,) = console.changes(1)
        assert read["changes"] == {"conversation": {"read": [talk.pk]}}
        assert (read["conversations"][0]["unread_count"], read["unread"]["total"]) == (0, 0)


def test_in_order_and_once_over_fifty_reconnects_with_four_writers(
    client: httpx.Client, account: Account
) -> None:
    """Commits overlap and end in another order than they began."""
    start = feed.head()
    count = 100

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for number in range(count):
            with transaction.atomic():
                feed.append(seed, {"reply": {"new": [number]}})
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_sleep(%s)", [chance.random() * 0.01])

    seen: list[Any] = []
    last, chance, visits = str(start), random.Random(5), 0
    with alongside(*(partial(write, seed) for seed in range(4))):
        while len(seen) < 4 * count:
            visits += 1
            most = 4 * count - len(seen)
            with stream(client, **{"Last-Event-ID": last}) as console:
                seen += console.changes(min(most, chance.randint(1, 15)))
                last = str(seen[-1]["position"])
    assert visits > 25
    positions = [news["position"] for news in seen]
    assert positions == sorted(set(positions))
    for seed in range(4):
        told = [n["changes"]["reply"]["new"][0] for n in seen if n["account_id"] == seed]
        assert told == list(range(count))


def test_what_was_missed_comes_from_the_database_when_it_is_no_longer_in_memory(
    client: httpx.Client, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "KEPT", 10)
    monkeypatch.setattr(hub, "LOADED", 5)
    start = feed.head()
    for number in range(450):
        feed.append(account.pk, {"reply": {"new": [number]}})
    with stream(client, f"since={start}") as console:
        missed = console.until("live")
    assert [n["changes"]["reply"]["new"] for n in missed] == [[n] for n in range(450)]


def test_a_position_that_was_pruned_or_is_not_ours_means_reload(
    client: httpx.Client, account: Account
) -> None:
    say(account, 1)
    say(account, 2)
    floor = feed.head()
    assert feed.prune(timezone.now() + timedelta(days=1)) == 2
    say(account, 3)
    newest = feed.head()
    for since in (floor - 1, newest + 1000):
        with stream(client, f"since={since}") as console:
            assert next(console.events()) == ("reset", {"position": newest})
            assert console.last == str(newest)
            assert console.until("live") == []
            say(account, newest)
            assert console.changes(1)[0]["position"] == feed.head()
        newest = feed.head()
    with stream(client, f"since={floor}") as console:
        assert len(console.until("live")) == 3


def test_a_silent_stream_is_kept_awake(
    client: httpx.Client, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "HEARTBEAT_S", 0.05)
    with stream(client) as console:
        console.until("live")
        assert console.until("beat") == []
        assert console.comments


@pytest.mark.parametrize("end", ["token", "right", "user"])
def test_who_loses_login_or_right_loses_the_stream(
    client: httpx.Client, account: Account, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(hub, "RIGHTS_S", 0.1)
    ended: dict[str, Callable[[], Any]] = {
        "token": AuthToken.objects.all().delete,
        "right": lambda: User.objects.update(is_superuser=False),
        "user": lambda: User.objects.update(is_active=False),
    }
    with stream(client) as console:
        console.until("live")
        ended[end]()
        assert console.until("denied") == []
        assert list(console.events()) == []
    assert client.get(EVENTS).status_code in (401, 403)


def test_a_session_that_is_logged_out_loses_the_stream(
    web: str, account: Account, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.test import Client

    monkeypatch.setattr(hub, "RIGHTS_S", 0.1)
    browser = Client()
    browser.force_login(User.objects.get())
    cookies = {name: morsel.value for name, morsel in browser.cookies.items()}
    with (
        httpx.Client(base_url=web, cookies=cookies, timeout=20, trust_env=False) as session,
        stream(session) as console,
    ):
        console.until("live")
        browser.logout()
        assert console.until("denied") == []


def test_the_database_goes_away_and_comes_back(
    client: httpx.Client, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Consoles stay open, are told, and get all afterwards. New ones wait for it, too."""
    monkeypatch.setattr(hub, "RETRY_S", (0.05, 0.1))
    listening, gone = hub._listening, threading.Event()

    @asynccontextmanager
    async def refusing() -> Any:
        if gone.is_set():
            raise psycopg.OperationalError("connection refused")
        async with listening() as link:
            yield link

    monkeypatch.setattr(hub, "_listening", refusing)
    with stream(client) as console:
        console.until("live")
        gone.set()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'muster-feed' AND datname = current_database()"
            )
        assert console.until("away") == []
        for number in range(1, 6):
            say(account, number)
        gone.clear()
        told = console.until("live")
        assert len(told) == 5
        say(account, 6)
        assert len(console.changes(1)) == 1


def test_a_console_that_reads_nothing_is_disconnected_and_holds_up_nobody(
    web: str,
    client: httpx.Client,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("lifecycle.api.event_stream.SEND_S", 1.5)
    where, port = web.removeprefix("http://").split(":")
    with socket.socket() as slow, stream(client) as console:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((where, int(port)))
        head = f"GET {EVENTS} HTTP/1.1\r\nHost: {where}\r\n"
        slow.sendall(f"{head}Authorization: {client.headers['Authorization']}\r\n\r\n".encode())
        console.until("live")
        first = b""
        while b"event: live" not in first:
            first += slow.recv(4096)
        ids = list(range(10_000))
        for _ in range(150):  # more than all buffers between us hold
            feed.append(account.pk, {"reply": {"new": ids}})
            assert len(console.changes(1)) == 1
        eventually(lambda: "its reader took nothing" in caplog.text)
        while slow.recv(65536):  # what was under way, and then the end
            pass
    (told,) = (one for one in caplog.records if "its reader took nothing" in one.getMessage())
    assert told.levelname == "INFO"
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


def test_a_console_that_falls_out_of_what_is_kept_comes_again(
    client: httpx.Client, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads, but more slowly than news come: it ends, and its position stays good."""
    monkeypatch.setattr(hub, "KEPT", 5)
    monkeypatch.setattr(hub, "READ_AT_ONCE", 2)
    ids = list(range(20_000))
    small = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)])
    with (
        httpx.Client(
            base_url=client.base_url, headers=client.headers, timeout=20, transport=small
        ) as narrow,
        stream(narrow) as console,
    ):
        console.until("live")
        for _ in range(60):
            feed.append(account.pk, {"reply": {"new": ids}})
        seen = [data["position"] for name, data in console.events() if name == "changes"]
    assert 0 < len(seen) < 60
    with stream(client, **{"Last-Event-ID": console.last}) as again:
        seen += [news["position"] for news in again.until("live")]
    assert seen == list(range(seen[0], seen[0] + 60))


def test_consoles_hold_neither_threads_nor_database_connections(
    client: httpx.Client, account: Account
) -> None:
    client.get("/api/v1/accounts")
    before = threading.active_count()
    with ExitStack() as stack:
        consoles = [stack.enter_context(stream(client)) for _ in range(40)]
        for console in consoles:
            console.until("live")
        say(account, 1)
        assert all(len(console.changes(1)) == 1 for console in consoles)
        eventually(lambda: threading.active_count() <= before + 4)  # hub and backlog, Django's own
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            )
            assert cursor.fetchone()[0] <= POOL + 2


def test_errors_before_the_stream_have_the_one_shape(client: httpx.Client) -> None:
    for query in ("since=x", "since=-1", "sinse=1"):
        answer = client.get(f"{EVENTS}?{query}")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["attr"] == query.split("=")[0]
