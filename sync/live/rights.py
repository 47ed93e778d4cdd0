"""Who may still listen: a stream outlives the request that was allowed to open it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models import Q
from django.utils.crypto import constant_time_compare
from knox.models import AuthToken

PERMISSION = "sync.view_conversation"


@dataclass(frozen=True, slots=True)
class Login:
    """By what somebody opened a stream: a token (its digest) or a session (its key)."""

    user_id: int
    token: str = ""
    session: str = ""


def login_of(request: Any) -> Login:
    """The login of an authenticated request, DRF's or Django's."""
    if (token := getattr(request, "auth", None)) is not None:
        return Login(request.user.pk, token=token.digest)
    return Login(request.user.pk, session=request.session.session_key or "")


def still_allowed(logins: Collection[Login], now: datetime) -> set[Login]:
    """Those whose user is active and has the right, and whose token or session is valid.

    Three queries, however many there are.
    """
    permitted = User.objects.with_perm(PERMISSION)
    users = {user.pk: user for user in permitted.filter(pk__in={one.user_id for one in logins})}
    tokens = _tokens((one.token for one in logins if one.token), now)
    sessions = _sessions((one.session for one in logins if one.session), now)

    def holds(one: Login) -> bool:
        if (user := users.get(one.user_id)) is None:
            return False
        if one.token:
            return one.token in tokens
        data = sessions.get(one.session, {})
        return data.get(SESSION_KEY) == str(one.user_id) and constant_time_compare(
            str(data.get(HASH_SESSION_KEY, "")), user.get_session_auth_hash()
        )

    return {one for one in logins if holds(one)}


def _tokens(digests: Iterable[str], now: datetime) -> set[str]:
    valid = Q(expiry__isnull=True) | Q(expiry__gt=now)
    rows = AuthToken.objects.filter(valid, digest__in=set(digests))
    return set(rows.values_list("digest", flat=True))


def _sessions(keys: Iterable[str], now: datetime) -> dict[str, dict[str, Any]]:
    rows = Session.objects.filter(session_key__in=set(keys), expire_date__gt=now)
    return {row.session_key: row.get_decoded() for row in rows}
