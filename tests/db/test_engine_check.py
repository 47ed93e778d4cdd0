"""`sync.engine.check`: one check of one account, whatever its platform does."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from sync import breaker, platforms, reading_on, services, store, tasks
from sync.engine import check as engine_check
from sync.errors import (
    CursorInvalid,
    CursorMoved,
    LoginExpired,
    LoginFailed,
    PlatformUnavailable,
    RateLimited,
    StaleEpoch,
)
from sync.models import Account, FeedEntry, Gap, Message, PlatformServer, SyncRun
from sync.types import AccountRef, Batch, LastKnown, Lease, LoginState, OpenGap
from tests.db.engine_stage import check
from tests.db.sync_stage import TinyConnection, TinyPlatform, make_account, message, script

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyPlatform:
    platform = TinyPlatform()
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": platform})
    return platform


@pytest.fixture
def account(db: None) -> Account:
    return make_account(
        credentials={"user": "ann", "password": PASSWORD},
        session={"token": "session-token"},
        epoch=3,
        claimed_generation=1,
    )


def batch(cursor: str, *numbers: int) -> Batch:
    return Batch(cursor, tuple(message(n) for n in numbers))


# --- the good path ----------------------------------------------------------------------------


def test_a_check_stores_what_is_new_and_is_due_after_the_interval(
    account: Account, tiny: TinyPlatform
) -> None:
    tiny.on_read = script(batch("1", 1, 2), batch("2", 3))
    before = timezone.now()
    check(account)
    assert Message.objects.count() == 3
    assert (account.cursor, account.sequence, account.claimed_generation) == ("2", 2, None)
    spread = account.next_due_at - before
    assert timedelta(seconds=13) <= spread <= timedelta(seconds=18)  # there was news: half of 30 s
    assert tiny.reads == [("", 0.0)]
    assert tiny.opened == tiny.closed == 1
    assert tiny.logins == 0


def test_the_next_batch_is_read_after_the_last_is_committed(
    account: Account, tiny: TinyPlatform
) -> None:
    stored: list[int] = []
    ingested = threading.Event()

    async def read(_cursor: str, _wait_s: float) -> AsyncGenerator[Batch, None]:
        for number in (1, 2, 3):
            ingested.clear()
            yield batch(str(number), number)
            stored.append(int(ingested.is_set()))

    original = store.ingest_batch

    def ingest(*args: Any) -> Any:
        receipt = original(*args)
        ingested.set()
        return receipt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "ingest_batch", ingest)
        tiny.on_read = read
        check(account)
    assert stored == [1, 1, 1]


def test_without_a_session_it_logs_in_first(account: Account, tiny: TinyPlatform) -> None:
    Account.objects.update(session={})
    seen: list[str] = []
    original = services.record_login

    def record_login(lease: Lease, state: LoginState, *session: Any) -> None:
        original(lease, state, *session)
        seen.append(Account.objects.get().login_state)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(services, "record_login", record_login)
        check(account)
    assert seen == [LoginState.PENDING, LoginState.SUCCESS]
    assert dict(account.session) == {"token": "secret-token-1"}


# --- trouble ----------------------------------------------------------------------------------


def test_a_platform_that_is_away_backs_off(account: Account, tiny: TinyPlatform) -> None:
    tiny.on_read = script(batch("1", 1), PlatformUnavailable("connection refused"))
    before = timezone.now()
    check(account)
    assert Message.objects.count() == 1  # what came before it is kept
    assert (account.error_count, account.last_error) == (1, "connection refused")
    assert before < account.next_due_at <= timezone.now() + timedelta(seconds=2)
    assert account.claimed_generation is None
    assert SyncRun.objects.get(outcome="failed").error == "connection refused"
    tiny.on_read = script(batch("2", 2))
    assert check(account).error_count == 0


def test_an_error_before_the_first_read_is_reported_too(
    account: Account, tiny: TinyPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        async def __aenter__(self) -> None:
            raise PlatformUnavailable("no route")

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(tiny, "connect", lambda _ref: Closed())
    assert check(account).last_error == "no route"


def told(account: Account) -> int:
    """How often the feed spoke of the account itself."""
    return FeedEntry.objects.filter(changes__account={"changed": [account.pk]}).count()


@pytest.mark.parametrize("last", [batch("c1", 1), batch("c1"), None], ids=["news", "cursor", ""])
@pytest.mark.parametrize("can_wait", [False, True])
def test_the_feed_tells_of_the_first_failure_and_of_its_end(
    account: Account,
    tiny: TinyPlatform,
    monkeypatch: pytest.MonkeyPatch,
    last: Batch | None,
    can_wait: bool,
) -> None:
    tiny.on_read = script(PlatformUnavailable("away"), PlatformUnavailable("away"))
    counts = [told(check(account)) for _ in range(2)]
    assert counts == [1, 1]
    tiny.on_read = script(*([last] if last else []))
    if can_wait:
        monkeypatch.setattr(tiny, "can_wait", True)
        monkeypatch.setattr(engine_check.AccountCheck, "_wait", ended)
    check(account)
    assert (account.error_count, told(account)) == (int(can_wait), 2 + can_wait)
    tiny.can_wait = False  # type: ignore[misc]
    tiny.on_read = script(batch("c2", 2))
    check(account)
    check(account)
    assert told(account) == 2 + 2 * can_wait


async def ended(_check: engine_check.AccountCheck) -> None:
    raise PlatformUnavailable("the wait was cut")


def test_the_feed_tells_of_a_login_that_is_lost_later(account: Account, tiny: TinyPlatform) -> None:
    tiny.on_read = script(PlatformUnavailable("away"))
    check(account)

    async def refuse(_ref: AccountRef) -> None:
        raise LoginFailed("the token was withdrawn")

    tiny.on_login = refuse
    Account.objects.update(session={})
    check(account)
    assert (account.error_count, account.login_state, told(account)) == (2, "failed", 2)


def test_a_rate_limit_is_kept(account: Account, tiny: TinyPlatform) -> None:
    tiny.on_read = script(RateLimited("slow down", 77))
    before = timezone.now()
    check(account)
    assert account.next_due_at >= before + timedelta(seconds=77)


def test_an_expired_session_is_renewed_once(account: Account, tiny: TinyPlatform) -> None:
    tiny.on_read = script(LoginExpired("token expired"), batch("1", 1))
    check(account)
    assert (account.login_state, account.error_count) == (LoginState.SUCCESS, 0)
    assert tiny.logins == 1
    assert Message.objects.count() == 1


def test_a_session_that_expires_at_once_is_tried_again_later(
    account: Account, tiny: TinyPlatform
) -> None:
    """A platform in trouble ends sessions too: a person is asked when credentials are refused."""
    tiny.on_read = script(LoginExpired("no"), LoginExpired("no again"))
    before = timezone.now()
    check(account)
    assert (account.login_state, account.error_count, tiny.logins) == (LoginState.EXPIRED, 1, 1)
    assert account.last_error == "the platform ended a new session at once"
    assert before < account.next_due_at < before + timedelta(seconds=30)

    tiny.on_read = script(LoginExpired("not the old one"), batch("1", 1))
    check(account)
    assert (account.login_state, account.error_count, tiny.logins) == (LoginState.SUCCESS, 0, 2)


def test_a_wrong_password_waits_for_a_person_and_is_not_shown(
    account: Account, tiny: TinyPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    Account.objects.update(session={})

    async def refuse(_ref: AccountRef) -> None:
        raise LoginFailed(f"'{PASSWORD}' is not the password")

    tiny.on_login = refuse
    with caplog.at_level(logging.DEBUG):
        check(account)
    assert account.login_state == LoginState.FAILED
    assert account.last_error == "'[redacted]' is not the password"
    assert PASSWORD not in caplog.text
    assert PASSWORD not in SyncRun.objects.get().error


def test_an_invalid_cursor_starts_over_and_says_so_until_that_is_done(
    account: Account, tiny: TinyPlatform
) -> None:
    tiny.on_read = script(batch("old", 1))
    check(account)
    tiny.on_read = script(
        CursorInvalid(f"unknown token of {PASSWORD}"),
        batch("new", 1, 2),
        PlatformUnavailable("cut"),
    )
    check(account)
    assert [cursor for cursor, _ in tiny.reads] == ["", "old", ""]
    assert (account.cursor, account.error_count) == ("new", 1)
    assert account.notice.startswith(f"{reading_on.FROM_START} (unknown token of ")
    assert PASSWORD not in account.notice
    assert account.notice_at
    assert account.last_error == "cut", "a notice is no error"
    tiny.on_read = script(batch("newer", 3))
    check(account)
    assert (account.notice, account.error_count) == ("", 0)
    assert Account.objects.get().notice_at is None
    assert Message.objects.count() == 3


def cursor_after(_connection: Any, known: LastKnown) -> str:
    return f"after {known.message_at:%S} in {','.join(known.conversations)}"


@pytest.mark.parametrize("gap", ["", "room:1", "hooks:7"])
def test_an_adapter_that_can_reads_on_from_the_last_known_messages(
    account: Account, tiny: TinyPlatform, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    """Where nothing below them is known to be missing; else the start is read again."""

    monkeypatch.setattr(TinyConnection, "cursor_after", cursor_after)
    tiny.on_read = script(batch("old", 1, 2))
    check(account)
    if gap:
        Gap.objects.create(account=account, key=gap)
    tiny.on_read = script(CursorInvalid("unknown"), batch("new", 3))
    check(account)
    expected = "" if gap.startswith("room") else "after 02 in c1"
    assert [cursor for cursor, _ in tiny.reads] == ["", "old", expected]
    tiny.reads.clear()
    Gap.objects.all().delete()
    tiny.on_read = script(CursorInvalid("unknown"), CursorInvalid("that, too"), batch("end", 4))
    check(account)
    assert tiny.reads[-1][0] == "", "what fails again is read from the start"
    assert (account.cursor, account.error_count, Message.objects.count()) == ("end", 0, 4)


def test_gaps_that_no_reading_fills_go_into_the_new_cursor(
    account: Account, tiny: TinyPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of webhooks are not the adapter's."""

    def cursor_keeping(_connection: Any, gaps: Sequence[OpenGap]) -> str:
        return "keeping " + ",".join(gap.key for gap in gaps)

    monkeypatch.setattr(TinyConnection, "cursor_keeping", cursor_keeping)
    tiny.on_read = script(batch("old", 1))
    check(account)
    for key in ("updates:1-2", "hooks:7"):
        Gap.objects.create(account=account, key=key)
    tiny.on_read = script(CursorInvalid("unknown"), batch("new", 2))
    check(account)
    assert tiny.reads[-1][0] == "keeping updates:1-2"
    assert account.cursor == "new"
    tiny.reads.clear()
    tiny.on_read = script(CursorInvalid("unknown"), CursorInvalid("that, too"), batch("end", 3))
    check(account)
    assert [cursor for cursor, _ in tiny.reads] == ["new", "keeping updates:1-2", ""]


def test_where_it_reads_on_is_settled_before_anything_is_read(
    account: Account, tiny: TinyPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest come first: killed behind them, they are not what was known before."""
    monkeypatch.setattr(TinyConnection, "cursor_after", cursor_after)
    tiny.on_read = script(batch("old", 1, 2))
    check(account)
    newest = Batch(None, (message(9),), more=True)
    tiny.on_read = script(CursorInvalid("unknown"), newest, PlatformUnavailable("cut"))
    check(account)
    assert account.cursor == "after 02 in c1"
    assert account.notice == f"{reading_on.FROM_KNOWN} (unknown)"
    tiny.on_read = script(batch("end", 3, 4, 5, 6, 7, 8))
    check(account)
    assert tiny.reads[-1][0] == "after 02 in c1"
    assert (account.notice, Message.objects.count()) == ("", 9)


def test_an_invalid_empty_cursor_is_a_failure(account: Account, tiny: TinyPlatform) -> None:
    tiny.on_read = script(CursorInvalid("odd"))
    assert check(account).error_count == 1


def test_an_adapters_mistake_stays_with_its_account(
    account: Account, tiny: TinyPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    tiny.on_read = script(ZeroDivisionError(f"oops {PASSWORD}"))
    check(account)
    assert account.last_error == "unexpected ZeroDivisionError; see the worker's log"
    assert account.error_count == 1
    assert "Traceback" in caplog.text


def test_an_unknown_platform_is_said(account: Account) -> None:
    Account.objects.update(platform="fax")
    assert check(account).last_error == "UnknownPlatform: there is no platform 'fax'"


def test_a_database_error_is_recorded_where_it_can_be(
    account: Account, tiny: TinyPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise DatabaseError("deadlock")

    monkeypatch.setattr(store, "ingest_batch", broken)
    tiny.on_read = script(batch("1", 1))
    assert check(account).last_error == "database: DatabaseError"
    assert account.next_due_at > timezone.now()


def test_a_database_that_is_away_ends_the_check_quietly(
    account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise DatabaseError("gone")

    monkeypatch.setattr(services, "begin_run", broken)
    check(account)
    assert f"the check of account {account.pk} ended: DatabaseError: gone" in caplog.text


def test_a_stale_claim_opens_no_connection(account: Account, tiny: TinyPlatform) -> None:
    due = account.next_due_at
    Account.objects.update(epoch=4)
    check(account)
    assert (tiny.opened, account.next_due_at, account.error_count) == (0, due, 0)


def test_an_account_that_moved_is_left_alone(account: Account, tiny: TinyPlatform) -> None:
    async def read(_cursor: str, _wait_s: float) -> AsyncGenerator[Batch, None]:
        yield batch("1", 1)
        yield batch("2", 2)

    original = store.ingest_batch

    def ingest(lease: Lease, *args: Any) -> Any:
        receipt = original(lease, *args)
        Account.objects.update(epoch=9)
        return receipt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "ingest_batch", ingest)
        tiny.on_read = read
        check(account)
    assert Message.objects.count() == 1
    assert (account.epoch, account.error_count, account.claimed_generation) == (9, 0, 1)


@pytest.mark.parametrize("error", [CursorMoved("moved"), StaleEpoch(1, 2, 3)])
def test_losing_a_race_is_no_failure(
    account: Account, tiny: TinyPlatform, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def lost(*_: object) -> None:
        raise error

    monkeypatch.setattr(store, "ingest_batch", lost)
    tiny.on_read = script(batch("1", 1))
    assert check(account).error_count == 0
    assert tiny.closed == 1


def test_an_adapter_that_hangs_is_given_up(
    account: Account, tiny: TinyPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_check, "ANSWER_S", 0.05)

    async def read(_cursor: str, _wait_s: float) -> AsyncGenerator[Batch, None]:
        await asyncio.sleep(60)
        yield batch("1", 1)

    tiny.on_read = read
    assert check(account).last_error.startswith("no answer within")
    assert tiny.closed == 1


def test_receipts_older_than_thirty_days_go(account: Account) -> None:
    old = timezone.now() - timedelta(days=31)
    for sequence in (1, 2):
        SyncRun.objects.create(
            account=account, epoch=0, outcome="committed", sequence=sequence, finished_at=old
        )
    SyncRun.objects.create(account=account, epoch=0, outcome="committed", sequence=3)
    tasks.prune_runs()
    assert SyncRun.objects.get().sequence == 3


def test_a_username_is_no_secret(account: Account, tiny: TinyPlatform) -> None:
    """Whose password was refused is what the message is for."""
    user = "anneke"
    Account.objects.update(session={}, credentials={"user": user, "password": PASSWORD})

    async def refuse(_ref: AccountRef) -> None:
        raise LoginFailed(f"'{PASSWORD}' is not the password of {user}-s")

    tiny.on_login = refuse
    check(account)
    assert account.last_error == f"'[redacted]' is not the password of {user}-s"


# --- the server's breaker ---------------------------------------------------------------------


def test_failures_are_counted_for_the_server_and_an_answer_ends_them(
    account: Account, tiny: TinyPlatform
) -> None:
    Account.objects.update(endpoint="https://down.test")
    account.refresh_from_db()
    for _ in range(2):
        tiny.on_read = script(PlatformUnavailable("connection refused"))
        check(account)
    server = PlatformServer.objects.get()
    assert (server.endpoint, server.failures, server.state) == ("https://down.test", 2, "closed")
    tiny.on_read = script(LoginFailed("wrong password"))  # an answer, if not a good one
    check(account)
    assert PlatformServer.objects.get().failures == 0
    assert PlatformServer.objects.get().last_error == "connection refused"


def test_a_rate_limit_opens_the_server_for_as_long_as_it_asks(
    account: Account, tiny: TinyPlatform
) -> None:
    for _ in range(breaker.OPENS_AFTER):
        tiny.on_read = script(RateLimited("slow down", 900))
        Account.objects.update(not_before=None)
        check(account)
    server = PlatformServer.objects.get()
    assert server.state == "open"
    assert server.retry_at is not None
    assert server.retry_at > timezone.now() + timedelta(seconds=890)


def test_an_adapters_mistake_is_not_the_servers(account: Account, tiny: TinyPlatform) -> None:
    tiny.on_read = script(ZeroDivisionError("oops"))
    check(account)
    assert not PlatformServer.objects.exists()


# --- intervals that follow the news -----------------------------------------------------------


def test_news_shrink_the_interval_and_their_absence_stretches_it(
    account: Account, tiny: TinyPlatform
) -> None:
    tiny.on_read = script(batch("1", 1))
    assert check(account).current_interval_s == 15
    assert account.next_due_at < timezone.now() + timedelta(seconds=17)
    Account.objects.update(last_news_at=timezone.now() - timedelta(hours=1))
    for _ in range(20):
        check(account)
    assert account.current_interval_s == 120
    assert account.next_due_at > timezone.now() + timedelta(seconds=100)
