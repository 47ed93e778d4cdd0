"""Logins that somebody asked for: one at a time for each account, each with an end [S11].

The row is what operators and worker speak through: the worker writes what is to be seen and done,
people write their answer, or that they gave it up. A session that nobody ends is `expired` at its
time, by the worker that performs it or, where there is none, by the master's duty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from sync import feed
from sync.errors import LoginCancelled, LoginUnderWay, Rejected
from sync.merge import clean
from sync.models import OPEN_LOGIN, Account, LoginSession
from sync.services.rows import ask_now, held, locked, notify
from sync.types import Lease, LoginSessionState, LoginState, LoginStep

LASTS = timedelta(minutes=5)  # without a word of the platform on it
LASTS_AT_MOST = timedelta(minutes=15)  # however often the platform shows another image
LONGEST_MESSAGE = 2000
IN_VAIN = "Nobody finished the login in time."
LONGEST_ADDRESS = 2000
OPEN_STATES = (LoginSessionState.PENDING, LoginSessionState.SCANNED)


@dataclass(frozen=True, slots=True)
class LoginTask:
    """An open login session, for the check that performs it."""

    session_id: int
    expires_at: datetime


# --- what people do ---------------------------------------------------------------------------


def ask_login(account_id: int, by: str, now: datetime) -> LoginSession:
    """Have the account's worker log in, and show how it goes.

    Raises `Account.DoesNotExist`; `Rejected` when the account is disabled, `LoginUnderWay` when
    there is an open session.
    """
    with locked(account_id) as account:
        if not account.enabled:
            raise Rejected(_("%(account)s is disabled; enable it first.") % {"account": account})
        _expire(now, account_id)
        if LoginSession.objects.filter(OPEN_LOGIN, account_id=account_id).exists():
            raise LoginUnderWay(_("A login of this account is under way; cancel it first."))
        session = LoginSession.objects.create(
            account=account, expires_at=now + LASTS, created_by=by
        )
        ask_now(account, now)
        if account.login_state != LoginState.SUCCESS:
            account.login_state = LoginState.PENDING.value
        account.save(update_fields=["next_due_at", "not_before", "asks_at", "login_state"])
        feed.append(account_id, {"login_session": {"new": [session.pk]}})
        notify(account_id)
    session.refresh_from_db()
    return session


def cancel_login(session_id: int, by: str, now: datetime) -> LoginSession:
    """Give a login up; the worker that performs it ends it within a second.

    Raises `LoginSession.DoesNotExist`; `Rejected` when it has ended otherwise.
    """
    with transaction.atomic():
        session = _locked(session_id)
        if session.state == LoginSessionState.CANCELLED:
            return session
        _require_open(session, now)
        _end(session, LoginSessionState.CANCELLED, f"Cancelled by {by}.", now)
    return session


def answer_login(session_id: int, answer: Mapping[str, str], now: datetime) -> LoginSession:
    """Hand over what came back from the address of a login, such as an OAuth code.

    Raises `LoginSession.DoesNotExist`; `Rejected` when nothing is asked for, or it is over.
    """
    with transaction.atomic():
        session = _locked(session_id)
        _require_open(session, now)
        if not session.url:
            raise Rejected(_("This login asks for no answer."))
        session.answer = dict(answer)
        session.save(update_fields=["answer"])
        feed.append(session.account_id, {"login_session": {"changed": [session.pk]}})
    return session


def answer_from(code: str = "", state: str = "", address: str = "") -> dict[str, str]:
    """What a person hands over, with code and state taken from the address where it leads.

    Raises `ValidationError` when there is no code.
    """
    if address:
        query = parse_qs(urlsplit(address).query)
        code = code or query.get("code", [""])[0]
        state = state or query.get("state", [""])[0]
        if not code:
            message = _("This address holds no code.")
            raise ValidationError({"address": ValidationError(message, code="invalid")})
    if not code:
        message = _("Give the code, or the address that holds it.")
        raise ValidationError({"code": ValidationError(message, code="required")})
    return {"code": code} | ({"state": state} if state else {})


# --- what the account's worker does -----------------------------------------------------------


def begin_login(lease: Lease, now: datetime) -> LoginTask | None:
    """The account's open session, None when there is none (any more). Raises `StaleEpoch`."""
    with held(lease):
        _expire(now, lease.account_id)
        found = LoginSession.objects.filter(OPEN_LOGIN, account_id=lease.account_id).first()
        return LoginTask(found.pk, found.expires_at) if found else None


def tell_login(
    lease: Lease, session_id: int, step: LoginStep, now: datetime
) -> dict[str, object] | None:
    """Show a step to people; returns what they have answered so far, None for nothing.

    Raises `LoginCancelled` when they gave it up or its time is over, `StaleEpoch`.
    """
    with held(lease) as account:
        session = _asked_for(session_id, now)
        shown = _shown(session, step)
        if any(getattr(session, name) != value for name, value in shown.items()):
            for name, value in shown.items():
                setattr(session, name, value)
            session.save(update_fields=list(shown))
            feed.append(account.pk, {"login_session": {"changed": [session.pk]}})
        if account.login_state not in (LoginState.SUCCESS, session.state):
            account.login_state = LoginState(session.state).value
            account.save(update_fields=["login_state"])
        return dict(session.answer) or None


def require_login_wanted(session_id: int, now: datetime) -> None:
    """Raises `LoginCancelled` when people gave it up or its time is over."""
    with transaction.atomic():
        _asked_for(session_id, now)


def end_login(
    lease: Lease,
    session_id: int,
    state: LoginSessionState,
    message: str,
    now: datetime,
    session: dict[str, object] | None = None,
) -> None:
    """How a login ended; with the platform's session where it worked, in one transaction.

    One that people gave up in its last moment worked all the same. Raises `StaleEpoch`.
    """
    with held(lease) as account:
        row = LoginSession.objects.select_for_update(no_key=True).filter(pk=session_id).first()
        if session is not None:
            account.session = session
            account.login_state = LoginState.SUCCESS.value
            account.last_error, account.last_error_at = "", None
            account.save(update_fields=["session", "login_state", "last_error", "last_error_at"])
        if row is not None and (row.state in OPEN_STATES or session is not None):
            _end(row, state, message, now)


def expire_logins(now: datetime) -> datetime | None:
    """End the sessions whose time is over; returns when the next one's is."""
    _expire(now)
    open_ones = LoginSession.objects.filter(OPEN_LOGIN).order_by("expires_at")
    return open_ones.values_list("expires_at", flat=True).first()


# --- parts ------------------------------------------------------------------------------------


def _locked(session_id: int) -> LoginSession:
    """The row, locked; the account's first, as its worker does."""
    account_id = LoginSession.objects.values_list("account_id", flat=True).get(pk=session_id)
    accounts = Account.objects.select_for_update(no_key=True).values_list("pk", flat=True)
    accounts.filter(pk=account_id).first()
    return LoginSession.objects.select_for_update(no_key=True).get(pk=session_id)


def _require_open(session: LoginSession, now: datetime) -> None:
    if session.state not in OPEN_STATES:
        state = session.get_state_display()
        raise Rejected(_("This login has ended: “%(state)s”.") % {"state": state})
    if session.expires_at <= now:
        raise Rejected(_("The time of this login is over."))


def _asked_for(session_id: int, now: datetime) -> LoginSession:
    rows = LoginSession.objects.select_for_update(no_key=True)
    session = rows.filter(pk=session_id).first()
    if session is None or session.state not in OPEN_STATES:
        raise LoginCancelled(session.message if session else "The login was given up.")
    if session.expires_at <= now:
        raise LoginCancelled(IN_VAIN)
    return session


def _shown(session: LoginSession, step: LoginStep) -> dict[str, Any]:
    """The columns of a step. What leads a person astray is left out: an address that is no web
    page, or one cut in the middle."""
    state = step.state if step.state in OPEN_STATES else LoginSessionState.PENDING
    url = clean(step.url)
    is_address = url.startswith(("https://", "http://")) and len(url) <= LONGEST_ADDRESS
    latest = session.created_at + LASTS_AT_MOST
    return {
        "state": state.value,
        "message": clean(step.message, LONGEST_MESSAGE),
        "qr_text": clean(step.qr_text),
        "url": url if is_address else "",
        "expires_at": min(step.expires_at, latest) if step.expires_at else session.expires_at,
    }


def _end(session: LoginSession, state: LoginSessionState, message: str, now: datetime) -> None:
    """What was shown is of no use any more, and the answer is a secret: both go."""
    session.state, session.finished_at = state.value, now
    session.message = clean(message, LONGEST_MESSAGE)
    session.qr_text, session.url, session.answer = "", "", {}
    session.save(update_fields=["state", "finished_at", "message", "qr_text", "url", "answer"])
    if state != LoginSessionState.SUCCESS:
        waiting = [LoginState.PENDING.value, LoginState.SCANNED.value]
        Account.objects.filter(pk=session.account_id, login_state__in=waiting).update(
            login_state=LoginState.NONE.value
        )
    feed.append(session.account_id, {"login_session": {"changed": [session.pk]}})


def _expire(now: datetime, account_id: int | None = None) -> None:
    rows = LoginSession.objects.filter(OPEN_LOGIN, expires_at__lte=now)
    if account_id is not None:
        rows = rows.filter(account_id=account_id)
    for pk in list(rows.values_list("pk", flat=True)):
        with transaction.atomic():
            try:
                session = _locked(pk)
            except LoginSession.DoesNotExist:  # deleted with its account
                continue
            if session.state in OPEN_STATES and session.expires_at <= now:
                _end(session, LoginSessionState.EXPIRED, IN_VAIN, now)
