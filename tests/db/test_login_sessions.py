"""Logins that somebody asked for [S11]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone, translation

from sync import platforms, services
from sync.errands import logins as errand
from sync.errors import LoginCancelled, LoginFailed, LoginUnderWay, PlatformUnavailable, Rejected
from sync.models import Account, LoginSession
from sync.platforms.base import Tell
from sync.sweeps import ExpireLogins
from sync.types import Lease, LoginSessionState, LoginStep
from tests.db.errand_stage import OutboxPlatform, check_of, drive, due, perform
from tests.db.sync_stage import make_account

pytestmark = pytest.mark.django_db

PENDING, SCANNED = LoginSessionState.PENDING, LoginSessionState.SCANNED


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OutboxPlatform:
    made = OutboxPlatform(tmp_path / "sent.jsonl")
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": made})
    monkeypatch.setattr(errand, "ASK_S", 0.02)
    return made


@pytest.fixture
def account(platform: OutboxPlatform) -> Account:
    return make_account(next_due_at=timezone.now() + timedelta(hours=1), login_state="failed")


def ask(account: Account) -> LoginSession:
    return services.ask_login(account.pk, "ann", timezone.now())


def logging_in(*steps: LoginStep) -> Callable[[Tell], Any]:
    """Tells the steps and then has a session."""

    async def login(tell: Tell) -> dict[str, object]:
        for step in steps:
            await tell(step)
        return {"token": "secret-token"}

    return login


def test_asking_makes_the_account_due_even_after_a_failed_login(account: Account) -> None:
    session = ask(account)
    assert due(account)
    assert (session.state, session.created_by, account.login_state) == ("pending", "ann", "pending")
    assert session.expires_at > timezone.now()


def test_a_login_goes_its_way_and_leaves_a_session(
    account: Account, platform: OutboxPlatform
) -> None:
    seen: list[tuple[str, str, str]] = []

    async def login(tell: Tell) -> dict[str, object]:
        await tell(LoginStep(PENDING, "Scan this", qr_text="https://example.org/scan/1"))
        seen.append(now_shown())
        await tell(LoginStep(SCANNED, "Confirm on the phone"))
        seen.append(now_shown())
        return {"token": "secret-token"}

    shown: list[LoginSession] = []

    def now_shown() -> tuple[str, str, str]:
        row = shown[-1]
        return row.state, row.message, row.qr_text

    def telling(*args: Any) -> Any:
        answer = tell_login(*args)
        shown.append(LoginSession.objects.get())
        return answer

    tell_login = services.tell_login
    patched: Any = services
    patched.tell_login = telling
    platform.on_login_with = login
    ask(account)
    try:
        perform(errand.log_in, account, platform)
    finally:
        patched.tell_login = tell_login
    assert seen == [
        ("pending", "Scan this", "https://example.org/scan/1"),
        ("scanned", "Confirm on the phone", ""),
    ]
    session = LoginSession.objects.get()
    assert (session.state, session.qr_text, session.message) == ("success", "", "")
    assert session.finished_at is not None
    account = Account.objects.get()
    assert (account.login_state, account.session) == ("success", {"token": "secret-token"})


def test_without_a_session_row_nothing_is_done(account: Account, platform: OutboxPlatform) -> None:
    perform(errand.log_in, account, platform)
    assert platform.logins == 0


def test_one_at_a_time_for_each_account(account: Account) -> None:
    ask(account)
    with pytest.raises(LoginUnderWay):
        ask(account)
    ask(make_account())
    Account.objects.update(enabled=False)
    with pytest.raises(Rejected, match="disabled"):
        ask(account)


def test_a_failure_is_said_without_secrets_and_left_to_a_person(
    account: Account, platform: OutboxPlatform
) -> None:
    async def login(_tell: Tell) -> dict[str, object]:
        raise LoginFailed("the password was refused")

    platform.on_login_with = login
    ask(account)
    with pytest.raises(LoginFailed):
        perform(errand.log_in, account, platform)
    session = LoginSession.objects.get()
    assert (session.state, session.message) == ("failed", "the password was refused")


def test_an_outage_leaves_it_open_for_the_next_check(
    account: Account, platform: OutboxPlatform
) -> None:
    async def away(_tell: Tell) -> dict[str, object]:
        raise PlatformUnavailable("away")

    platform.on_login_with = away
    ask(account)
    with pytest.raises(PlatformUnavailable):
        perform(errand.log_in, account, platform)
    assert LoginSession.objects.get().state == "pending"
    platform.on_login_with = logging_in()
    perform(errand.log_in, account, platform)
    assert LoginSession.objects.get().state == "success"


@pytest.mark.parametrize("tells", [True, False], ids=["tells", "waits in silence"])
def test_a_cancelled_login_ends_at_the_adapter(
    account: Account, platform: OutboxPlatform, tells: bool
) -> None:
    ended: list[str] = []
    session = ask(account)

    begun = asyncio.Event()

    async def login(tell: Tell) -> dict[str, object]:
        await tell(LoginStep(PENDING, qr_text="scan"))
        begun.set()
        try:
            while tells:
                await tell(LoginStep(PENDING, qr_text="scan"))
            await asyncio.Event().wait()
            raise AssertionError("never set")
        except (LoginCancelled, asyncio.CancelledError) as error:
            ended.append(type(error).__name__)
            raise

    async def cancelled(check: Any) -> None:
        work = asyncio.ensure_future(errand.log_in(check))
        await begun.wait()
        await check.in_database(services.cancel_login, session.pk, "bob", timezone.now())
        with pytest.raises(LoginFailed, match="bob"):
            await work

    platform.on_login_with = login
    drive(cancelled, check_of(account, platform))
    assert len(ended) == 1
    session.refresh_from_db()
    assert (session.state, session.message) == ("cancelled", "Cancelled by bob.")
    account.refresh_from_db()
    assert account.login_state == "none"


def test_what_is_stored_is_english_whoever_clicks(account: Account) -> None:
    with translation.override("zh-hans"):
        given_up = services.cancel_login(ask(account).pk, "bob", timezone.now())
        late = ask(account)
        services.expire_logins(timezone.now() + timedelta(hours=1))
    late.refresh_from_db()
    assert given_up.message == "Cancelled by bob."
    assert late.message == "Nobody finished the login in time."


def test_an_account_with_a_session_goes_on_with_it(
    account: Account, platform: OutboxPlatform
) -> None:
    Account.objects.update(session={"token": "old"}, login_state="success")

    async def login(_tell: Tell) -> dict[str, object]:
        raise LoginFailed("nobody scanned")

    platform.on_login_with = login
    ask(account)
    perform(errand.log_in, account, platform)
    account = Account.objects.get()
    assert (account.session, account.login_state) == ({"token": "old"}, "success")
    assert LoginSession.objects.get().state == "failed"


def test_a_session_expires_without_any_worker(account: Account) -> None:
    session = ask(account)
    now = session.expires_at + timedelta(seconds=1)
    assert ExpireLogins().run(session.expires_at - timedelta(seconds=3)) == session.expires_at
    assert ExpireLogins().run(now) > now
    session.refresh_from_db()
    assert (session.state, session.qr_text) == ("expired", "")
    assert ask(account).state == "pending"


def test_what_is_over_is_not_performed_and_takes_no_answer(
    account: Account, platform: OutboxPlatform
) -> None:
    session = ask(account)
    LoginSession.objects.update(expires_at=timezone.now(), url="https://example.org")
    with pytest.raises(Rejected, match="over"):
        services.answer_login(session.pk, {"code": "c"}, timezone.now())
    with pytest.raises(Rejected, match="over"):
        services.cancel_login(session.pk, "ann", timezone.now())
    perform(errand.log_in, account, platform)
    session.refresh_from_db()
    assert session.state == "expired"
    with pytest.raises(Rejected, match="ended"):
        services.cancel_login(session.pk, "ann", timezone.now())
    assert platform.logins == 0


def test_an_answer_reaches_the_adapter_and_is_not_kept(
    account: Account, platform: OutboxPlatform
) -> None:
    got: list[object] = []
    begun, given = asyncio.Event(), asyncio.Event()
    session = ask(account)

    async def login(tell: Tell) -> dict[str, object]:
        step = LoginStep(PENDING, "Go on there", url="https://example.org/oauth?state=s1")
        assert await tell(step) is None
        begun.set()
        await given.wait()
        got.append(await tell(step))
        return {"token": "t"}

    async def answered(check: Any) -> None:
        work = asyncio.ensure_future(errand.log_in(check))
        await begun.wait()
        answer = services.answer_from(address="https://us.example.org/back?code=c%201&state=s1")
        await check.in_database(services.answer_login, session.pk, answer, timezone.now())
        given.set()
        await work

    platform.on_login_with = login
    drive(answered, check_of(account, platform))
    assert got == [{"code": "c 1", "state": "s1"}]
    session.refresh_from_db()
    assert (session.state, session.answer, session.url) == ("success", {}, "")


def test_answers_need_a_code(account: Account) -> None:
    session = ask(account)
    with pytest.raises(Rejected, match="no answer"):
        services.answer_login(session.pk, {"code": "c"}, timezone.now())
    for bad in ({}, {"state": "s"}, {"address": "https://example.org/?error=denied"}):
        with pytest.raises(ValidationError):
            services.answer_from(**bad)


def test_steps_cannot_lead_astray_or_last_for_ever(account: Account) -> None:
    session = ask(account)
    lease = Lease(account.pk, account.epoch)
    late = timezone.now() + timedelta(days=1)
    step = LoginStep(LoginSessionState.SUCCESS, "x" * 5000, "q\x00", "javascript:alert(1)", late)
    services.tell_login(lease, session.pk, step, timezone.now())
    session.refresh_from_db()
    assert (session.state, session.url, len(session.message)) == ("pending", "", 2000)
    assert "\x00" not in session.qr_text
    assert session.expires_at < timezone.now() + timedelta(minutes=16)
