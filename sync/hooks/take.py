"""One webhook request, from its bytes to the answer [S13]. Uses the database; no HTTP in here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from lifecycle.storable import is_storable, storable
from sync import platforms
from sync.errors import BadSignature, Malformed, UnknownPlatform
from sync.models import Account
from sync.platforms.base import Delivery, HookRequest, Hooks
from sync.services import deliveries
from sync.services.deliveries import Addressed

log = logging.getLogger(__name__)

LONGEST_DELIVERY_ID = 200
LONGEST_ORDER_KEY = 500
HIGHEST_NUMBER = 2**63 - 1


class Outcome(StrEnum):
    """What became of a request; the values are counters of `HookEndpoint`, where there is one."""

    ANSWERED = "answered"  # a handshake
    ACCEPTED = "accepted"
    REPEATED = "repeated"
    REJECTED = "rejected"  # nobody with the account's secret has sent it
    MISSED = "missed"  # signed, and the account is disabled
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Taken:
    """The outcome; `account_id` is None when there is no such account."""

    outcome: Outcome
    account_id: int | None = None
    body: bytes = b""  # to answer a handshake with
    error: str = ""


def take(platform: str, account_id: int, request: HookRequest, now: datetime) -> Taken:
    """Check the request and store what it brings. Committed when this returns.

    Raises what the database raises: then nothing is stored, and the platform sends it again.
    """
    try:
        hooks = platforms.get(platform).hooks
    except UnknownPlatform:
        hooks = None
    account = deliveries.addressed(platform, account_id) if hooks else None
    if hooks is None or account is None:
        return Taken(Outcome.REJECTED)
    try:
        body = hooks.answer(account.ref, request)
        if body is not None:
            return Taken(Outcome.ANSWERED, account_id, body)
        if request.method != "POST":
            return Taken(Outcome.REJECTED, account_id, error="not a handshake")
        delivery = hooks.check(account.ref, request, now)
    except BadSignature as bad:
        return Taken(Outcome.REJECTED, account_id, error=str(bad))
    except Malformed as malformed:
        return _keep_malformed(hooks, account, request, str(malformed))
    return _store(hooks, _recipient(hooks, account, delivery, request, now), delivery, request, now)


def _recipient(
    hooks: Hooks, account: Addressed, delivery: Delivery, request: HookRequest, now: datetime
) -> Addressed:
    """The account that the delivery itself names, if it is ours and its own secret signs it too.

    A platform that knows one address for each app sends what is for all of its accounts there.
    """
    if delivery.recipient in ("", account.ref.identifier):
        return account
    other = deliveries.named(account.ref.platform, delivery.recipient)
    if other is None:
        return account
    try:
        hooks.check(other.ref, request, now)
    except (BadSignature, Malformed):
        return account
    return other


def _store(
    hooks: Hooks, account: Addressed, delivery: Delivery, request: HookRequest, now: datetime
) -> Taken:
    account_id = account.ref.account_id
    if not account.enabled:
        return Taken(Outcome.MISSED, account_id)
    if not _fits(delivery):
        return _keep_malformed(hooks, account, request, "its id, its number or its key is too long")
    kept = _kept_headers(hooks, request)
    try:
        is_new = deliveries.take_delivery(account_id, delivery, kept, request.body, now)
    except Account.DoesNotExist:  # since then
        return Taken(Outcome.REJECTED)
    return Taken(Outcome.ACCEPTED if is_new else Outcome.REPEATED, account_id)


def _keep_malformed(hooks: Hooks, account: Addressed, request: HookRequest, error: str) -> Taken:
    account_id = account.ref.account_id
    try:
        deliveries.keep_malformed(account_id, _kept_headers(hooks, request), request.body, error)
    except Account.DoesNotExist:
        return Taken(Outcome.REJECTED)
    return Taken(Outcome.MALFORMED, account_id, error=error)


def _kept_headers(hooks: Hooks, request: HookRequest) -> dict[str, str]:
    names = hooks.kept_headers | {"content-type"}
    return {name: storable(value) for name, value in request.headers.items() if name in names}


def _fits(delivery: Delivery) -> bool:
    """Whether the columns hold it; what the platform named is never cut."""
    texts = delivery.delivery_id + delivery.order_key
    return (
        0 < len(delivery.delivery_id) <= LONGEST_DELIVERY_ID
        and len(delivery.order_key) <= LONGEST_ORDER_KEY
        and is_storable(texts)
        and (delivery.number is None or 0 <= delivery.number <= HIGHEST_NUMBER)
    )
