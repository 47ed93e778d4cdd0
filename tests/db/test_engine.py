"""`sync.engine`: many accounts on one loop, with the database in threads of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from sync import errands, platforms, services, tasks
from sync.engine import engine as engine_module
from sync.engine import opening, process
from sync.engine.check import GATHER_S
from sync.engine.database import Database
from sync.models import Account, Message
from sync.types import Batch, Work
from tests.db.sync_stage import TinyPlatform, make_account, message, script
from tests.waiting import eventually, until

pytestmark = pytest.mark.django_db(transaction=True)


class WaitingPlatform(TinyPlatform):
    """Accounts of it wait for news that tests make: `say(identifier, batch)`."""

    can_wait = True

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0
        self.on_read = self._read
        self.news: list[Batch] = []

    async def _read(self, _cursor: str, wait_s: float) -> AsyncGenerator[Batch, None]:
        if not wait_s:
            return
        self.waiting += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await until(lambda: self.news, wait_s + 1)
            if self.news:
                yield self.news.pop()
        finally:
            self.waiting -= 1


@pytest.fixture(autouse=True)
def platform(monkeypatch: pytest.MonkeyPatch) -> WaitingPlatform:
    made = WaitingPlatform()
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": made})
    return made


@pytest.fixture(autouse=True)
def _own_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine that begins with the test and ends with it."""
    monkeypatch.setattr(process, "_process", None)
    monkeypatch.setattr(process, "_stopping", False)
    yield
    process.end()
    if process._process is not None:
        process._process.close()


def account(**fields: Any) -> Account:
    return make_account(**{"session": {"token": "t"}, "claimed_generation": 1, **fields})


def take(one: Account) -> None:
    tasks.monitor_account(one.pk, one.epoch)


def renew() -> None:
    """What the engine does each 30 s."""
    assert process._process is not None
    for watched in process._process.engine._watched.values():
        watched.renewed_at = 0
    running = asyncio.run_coroutine_threadsafe(
        process._process.engine.renew(), process._process.loop
    )
    running.result(10)


def given_out() -> int:
    """Connections that this process's pool has given out."""
    stats = connection.pool.get_stats()  # type: ignore[attr-defined]
    return int(stats.get("pool_size", 0) - stats.get("pool_available", 0))


def test_two_hundred_accounts_wait_without_a_thread_or_a_connection_each(
    platform: WaitingPlatform,
) -> None:
    accounts = [account() for _ in range(200)]
    threads, given = threading.active_count(), given_out()
    for one in accounts:
        take(one)
    eventually(lambda: platform.waiting == 200)
    assert process.watched() == 200
    assert threading.active_count() - threads <= 8  # loop, database, the pool's own
    eventually(lambda: given_out() <= given)
    assert Account.objects.filter(last_sync_at=None).count() == 0
    platform.news.append(Batch("c", (message(1),)))
    eventually(lambda: Message.objects.count() == 1)
    begun = time.monotonic()
    process.end()
    assert time.monotonic() - begun < 15, "not one after the other"
    assert platform.opened == platform.closed == 200
    assert Account.objects.filter(claimed_generation=None).count() == 200


def test_a_platform_with_news_all_the_time_is_asked_ten_times_a_second(
    platform: WaitingPlatform,
) -> None:
    asked: list[float] = []

    async def busy(_cursor: str, wait_s: float) -> AsyncGenerator[Batch, None]:
        if wait_s:
            asked.append(time.monotonic())
            yield Batch(f"c{len(asked)}", (message(len(asked)),))

    platform.on_read = busy
    take(account())
    eventually(lambda: len(asked) > 5)
    process.end()
    assert min(after - before for before, after in pairwise(asked)) >= GATHER_S
    assert Message.objects.count() >= 5


def test_one_statement_renews_all_and_tells_the_status(
    platform: WaitingPlatform, django_assert_num_queries: Any
) -> None:
    accounts = [account() for _ in range(5)]
    for one in accounts:
        take(one)
    eventually(lambda: platform.waiting == 5)
    Account.objects.update(next_due_at=timezone.now() + timedelta(seconds=5), watched_at=None)
    before = timezone.now()
    renew()
    rows = Account.objects.values_list("next_due_at", "watched_at", "epoch")
    assert all(due > before + timedelta(seconds=80) for due, _, _ in rows)
    assert all(watched and watched >= before for _, watched, _ in rows)


def test_a_lost_lease_ends_the_check(platform: WaitingPlatform) -> None:
    mine, lost = account(), account()
    take(mine)
    take(lost)
    eventually(lambda: platform.waiting == 2)
    Account.objects.filter(pk=lost.pk).update(epoch=7, claimed_generation=3)
    renew()
    eventually(lambda: process.watched() == 1)
    eventually(lambda: platform.closed == 1)
    lost.refresh_from_db()
    assert (lost.epoch, lost.claimed_generation, lost.error_count) == (7, 3, 0)


def test_a_deleted_account_is_let_go(platform: WaitingPlatform) -> None:
    one = account()
    take(one)
    eventually(lambda: platform.waiting)
    one.delete()
    renew()
    eventually(lambda: process.watched() == 0)


def test_what_was_asked_for_stays_due(platform: WaitingPlatform) -> None:
    """A renewal must not push away what a reply or `check now` has asked for."""
    one = account()
    take(one)
    eventually(lambda: platform.waiting)
    services.check_now(one.pk)
    renew()
    one.refresh_from_db()
    assert one.next_due_at <= timezone.now()
    assert process.watched() == 1  # until the master has claimed it anew


def test_a_newer_check_ends_the_older_one_and_a_doubled_message_does_nothing(
    platform: WaitingPlatform,
) -> None:
    one = account(epoch=3)
    take(one)
    eventually(lambda: platform.waiting)
    take(one)
    Account.objects.update(epoch=4)
    one.refresh_from_db()
    take(one)
    eventually(lambda: platform.closed == 1)
    eventually(lambda: platform.waiting == 1)
    assert (platform.opened, process.watched()) == (2, 1)
    tasks.monitor_account(one.pk, 3)  # late
    renew()
    assert (platform.opened, process.watched()) == (2, 1)


def test_a_check_that_does_not_end_is_left_behind(
    platform: WaitingPlatform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An adapter that swallows its cancelling must not keep the account from being checked."""
    monkeypatch.setattr(engine_module, "CLOSE_S", 0.1)
    stubborn, release = threading.Event(), threading.Event()

    async def read(_cursor: str, wait_s: float) -> AsyncGenerator[Batch, None]:
        while not release.is_set():
            stubborn.set()
            try:
                await until(release.is_set)
            except asyncio.CancelledError:
                continue
        none: tuple[Batch, ...] = ()
        for batch in none:
            yield batch

    platform.on_read = read
    one = account(epoch=3)
    take(one)
    assert stubborn.wait(5)
    Account.objects.update(epoch=4)
    one.refresh_from_db()
    platform.on_read = platform._read
    take(one)
    eventually(lambda: platform.waiting == 1)
    assert "does not end within" in caplog.text
    assert process.watched() == 1
    release.set()
    eventually(lambda: platform.closed == 1)
    assert process.watched() == 1


def test_a_hanging_server_delays_nobody_else(
    platform: WaitingPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own accounts wait for a place; those of another server don't."""
    under_way: list[str] = []

    class Slow(WaitingPlatform):
        name = "slow"

        async def _read(self, _cursor: str, _wait_s: float) -> AsyncGenerator[Batch, None]:
            under_way.append("slow")
            await asyncio.sleep(3600)
            yield Batch("never")

    slow = Slow()
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": platform, "slow": slow})
    hanging = [account(platform="slow", endpoint="https://slow.test") for _ in range(30)]
    for one in hanging:
        take(one)
    eventually(lambda: len(under_way) == opening.ANSWERS_AT_ONCE)
    quick = [account(endpoint="https://quick.test") for _ in range(30)]
    for one in quick:
        take(one)
    eventually(lambda: platform.waiting == 30)
    assert len(under_way) == opening.ANSWERS_AT_ONCE
    process.end()
    assert slow.opened == slow.closed == 30


def test_a_connection_that_does_not_close_is_left_open(
    platform: WaitingPlatform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "CLOSE_S", 0.1)
    monkeypatch.setattr(platform, "can_wait", False)

    class Sticky:
        session = {"token": "t"}

        async def __aenter__(self) -> Sticky:
            return self

        async def __aexit__(self, *_: object) -> None:
            await asyncio.sleep(3600)

        def read(self, cursor: str, wait_s: float) -> AsyncGenerator[Batch, None]:
            return script(Batch("c", (message(1),)))(cursor, wait_s)

    monkeypatch.setattr(platform, "connect", lambda _ref: Sticky())
    one = account()
    take(one)
    eventually(lambda: Account.objects.filter(claimed_generation=None).exists())
    assert "does not close" in caplog.text
    one.refresh_from_db()
    assert (one.error_count, one.messages_total) == (0, 1)


def test_an_account_that_comes_in_while_the_worker_stops_is_given_back(
    platform: WaitingPlatform,
) -> None:
    first, late = account(), account(next_due_at=timezone.now() + timedelta(days=1))
    take(first)
    eventually(lambda: platform.waiting)
    process.stop()
    take(late)
    eventually(lambda: Account.objects.filter(claimed_generation=None).count() == 2)
    late.refresh_from_db()
    assert late.next_due_at <= timezone.now()
    assert platform.opened == 1


def test_a_worker_that_is_stopped_before_its_first_account_takes_none(
    platform: WaitingPlatform,
) -> None:
    process.stop()
    take(account())
    eventually(lambda: Account.objects.filter(claimed_generation=None).exists())
    assert platform.opened == 0


# --- the database is away ---------------------------------------------------------------------


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Take the database from the engine's threads, and give it back."""
    state = {"away": False}
    original = Database.__call__

    async def call(self: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        if state["away"]:
            raise OperationalError("connection refused")
        return await original(self, function, *args, **kwargs)

    monkeypatch.setattr(Database, "__call__", call)

    def switch(is_away: bool) -> None:
        state["away"] = is_away

    return switch


def test_waits_go_on_while_the_database_is_away(
    platform: WaitingPlatform,
    away: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(engine_module, "RENEW_S", 0.05)
    monkeypatch.setattr(engine_module, "RENEW_AFTER_FAILURE_S", 0.02)
    accounts = [account() for _ in range(3)]
    for one in accounts:
        take(one)
    eventually(lambda: platform.waiting == 3)
    away(True)
    eventually(lambda: "leases can't be renewed" in caplog.text)
    late = account(next_due_at=timezone.now() + timedelta(minutes=1))  # its claim's lease
    take(late)
    assert process._process is not None
    engine = process._process.engine
    eventually(lambda: late.pk in engine._left)  # the loop takes it up when it comes to it
    assert platform.waiting == 3
    Account.objects.update(watched_at=None)
    away(False)
    eventually(lambda: Account.objects.exclude(watched_at=None).count() == 3)
    eventually(lambda: "the database answers again" in caplog.text)
    assert caplog.text.count("connection refused") == 1  # said once for the outage
    eventually(lambda: Account.objects.get(pk=late.pk).next_due_at <= timezone.now())
    assert platform.opened == 3  # the late one was given back, to be claimed anew


def test_leases_that_ran_out_in_an_outage_are_claimed_anew(platform: WaitingPlatform) -> None:
    """After an hour without database the master claims first; the old check then gives way."""
    one = account(epoch=3)
    take(one)
    eventually(lambda: platform.waiting)
    Account.objects.update(next_due_at=timezone.now() - timedelta(hours=1))
    renew()
    one.refresh_from_db()
    assert one.next_due_at < timezone.now()
    Account.objects.update(epoch=4, next_due_at=timezone.now() + timedelta(seconds=60))
    one.refresh_from_db()
    take(one)
    eventually(lambda: (platform.opened, platform.closed) == (2, 1))


def test_news_that_can_not_be_stored_are_read_again(
    platform: WaitingPlatform, away: Callable[[bool], None]
) -> None:
    one = account(epoch=3)
    take(one)
    eventually(lambda: platform.waiting)
    away(True)
    platform.news.append(Batch("c", (message(1),)))
    eventually(lambda: process.watched() == 0)
    away(False)
    one.refresh_from_db()
    assert (one.cursor, one.claimed_generation) == ("", 1)  # its lease brings it back
    assert one.next_due_at < timezone.now() + timedelta(seconds=services.LEASE_S)
    assert platform.closed == 1


# --- errands ----------------------------------------------------------------------------------


def test_errands_run_in_their_order_and_only_when_there_is_work(
    platform: WaitingPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.can_wait = False  # type: ignore[misc]
    ran: list[str] = []

    def errand(name: str) -> Any:
        async def perform(check: errands.Check) -> None:
            assert check.connection.session
            ran.append(name)
            await check.store(
                Batch(None, (message(len(ran)),)), lambda receipt: ran.append(f"{receipt.new} new")
            )

        return perform

    async def read(_cursor: str, _wait_s: float) -> AsyncGenerator[Batch, None]:
        ran.append("read")
        yield Batch("c", (message(9),))

    platform.on_read = read
    found = {work: errand(work.value) for work in Work}
    monkeypatch.setattr(errands, "ERRANDS", found)
    monkeypatch.setattr("sync.engine.check.ERRANDS", found)
    one = account()
    conversation = one.conversations.create(external_id="c1", title="")
    one.replies.create(conversation=conversation, text="hello")
    one.conversations.update(untold_read_id=1)
    one.deliveries.create(delivery_id="1", body=b"{}")
    one.login_sessions.create(expires_at=timezone.now() + timedelta(minutes=5))
    take(one)
    eventually(lambda: platform.closed)
    assert [name for name in ran if "new" not in name] == [
        "deliveries",
        "logins",
        "replies",
        "read",
        "marks",
        "audits",
    ]
    assert ran.count("1 new") == 5
    ran.clear()
    Account.objects.update(audit_due_at=timezone.now() + timedelta(days=1), epoch=1)
    for rows in (one.replies, one.deliveries, one.login_sessions):
        rows.all().delete()
    one.conversations.update(untold_read_id=None)
    one.refresh_from_db()
    take(one)
    eventually(lambda: platform.closed == 2)
    assert ran == ["read"]


def test_work_that_comes_due_ends_a_wait(
    platform: WaitingPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()

    async def audits(check: errands.Check) -> None:
        await check.in_database(_audited, check.run.lease.account_id)
        done.set()

    monkeypatch.setattr("sync.engine.check.ERRANDS", {Work.AUDITS: audits})
    monkeypatch.setattr("sync.engine.engine.ERRANDS", {Work.AUDITS: audits})
    one = account(audit_due_at=timezone.now() + timedelta(days=1))
    take(one)
    eventually(lambda: platform.waiting)
    Account.objects.update(audit_due_at=timezone.now())
    renew()
    assert done.wait(5)
    eventually(lambda: platform.waiting == 1)
    assert platform.opened == 1


def _audited(account_id: int) -> None:
    Account.objects.filter(pk=account_id).update(audit_due_at=timezone.now() + timedelta(days=1))


# --- the loop ---------------------------------------------------------------------------------


def test_a_loop_that_stands_still_is_reported(
    platform: WaitingPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lifecycle import worker_signals

    monkeypatch.setattr(process, "STUCK_S", 0.2)
    monkeypatch.setattr(engine_module, "TURN_S", 0.01)
    held, release = threading.Event(), threading.Event()

    async def read(_cursor: str, _wait_s: float) -> AsyncGenerator[Batch, None]:
        held.set()
        release.wait(10)  # blocks the loop, as an adapter must not
        yield Batch("c")

    assert process.is_stuck in worker_signals._watched
    assert not process.is_stuck()
    platform.on_read = read
    take(account())
    assert held.wait(5)
    eventually(process.is_stuck)
    release.set()
    eventually(lambda: not process.is_stuck())
