"""What people change on accounts."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pydantic
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from lifecycle.balance import Strategy
from sync import feed, platforms
from sync.errors import Rejected, UnknownPlatform
from sync.models import Account, Assignment
from sync.platforms.base import Platform
from sync.services.rows import ask_now, notify
from sync.types import LoginState

log = logging.getLogger(__name__)

FIELDS = (
    "name",
    "platform",
    "identifier",
    "endpoint",
    "credentials",
    "enabled",
    "interval_s",
    "stalled_after_s",
    "audit_interval_s",
)
IDENTITY = ("platform", "identifier")
DEFAULT_PORTS = {"https": ":443", "http": ":80"}
NEW_LOGIN = ("platform", "identifier", "endpoint", "credentials", "enabled")


def create_account(fields: dict[str, Any]) -> Account:
    """A new account, due at once. Raises `ValidationError` naming each bad field."""
    account = Account()
    _apply(account, fields)
    with transaction.atomic():
        account.save(force_insert=True)
        notify(account.pk)
    return account


def update_account(account: Account, fields: dict[str, Any]) -> Account:
    """Change an account. New credentials, a new endpoint or a new `enabled` ends its session and
    its running check; it is due at once. Raises `ValidationError` naming each bad field.

    Nothing but switching it off is always possible, even where its platform is not installed any
    more or now asks for other credentials.
    """
    with transaction.atomic():
        current = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        before = {name: getattr(current, name) for name in FIELDS}
        _apply(current, fields)
        changed = {name for name in FIELDS if getattr(current, name) != before[name]}
        if current.sequence and changed & set(IDENTITY):
            moved = _("An account that holds data can't become another one; create a new account.")
            raise ValidationError(dict.fromkeys(changed & set(IDENTITY), moved))
        if changed & set(NEW_LOGIN):
            _start_over(current)
        elif "interval_s" in changed and not current.error_count:
            ask_now(current)
        current.save()
        notify(current.pk)
    return current


def delete_account(account: Account) -> None:
    """Delete an account and all that it holds. A check that still runs finds its lease stale."""
    with transaction.atomic():
        locked = Account.objects.select_for_update().filter(pk=account.pk).first()
        if locked is not None:
            locked.delete()
            feed.append(account.pk, {"account": {"changed": [account.pk]}})
            notify(account.pk)


def check_now(account_id: int) -> None:
    """Due at once, even while it waits for a person, or for the time that the platform asked for.

    Raises `Account.DoesNotExist`; `Rejected` when it is disabled.
    """
    with transaction.atomic():
        account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
        if not account.enabled:
            raise Rejected(_("%(account)s is disabled; enable it first.") % {"account": account})
        ask_now(account)
        if account.login_state == LoginState.FAILED:
            account.login_state = LoginState.NONE.value
        account.save(update_fields=["next_due_at", "not_before", "asks_at", "login_state"])
        notify(account_id)


def set_strategy(strategy: Strategy, actor: str) -> Assignment:
    """How the next accounts are given to workers [L15]; no account moves because of it."""
    with transaction.atomic():
        chosen, _created = Assignment.objects.update_or_create(
            id=1, defaults={"strategy": strategy.value}
        )
        notify(0)
    log.info("accounts are assigned %s", strategy, extra={"actor": actor})
    return chosen


def _start_over(account: Account) -> None:
    """The account logs in anew, at once; whatever runs for it has lost its lease."""
    account.epoch += 1
    account.session = {}
    account.login_state = LoginState.NONE.value
    account.error_count = 0
    account.last_error, account.last_error_at = "", None
    account.notice, account.notice_at = "", None
    ask_now(account)
    account.claimed_generation = None
    if not account.enabled:
        account.worker = None


def _apply(account: Account, fields: dict[str, Any]) -> None:
    """Set the fields and validate the whole, once. Raises `ValidationError`."""
    if account.pk and fields == {"enabled": False}:
        account.enabled = False
        return
    errors: dict[str, Any] = {
        name: [_("There is no such field.")] for name in fields.keys() - set(FIELDS)
    }
    for name in fields.keys() & set(FIELDS):
        setattr(account, name, fields[name])
    try:
        platform = platforms.get(account.platform)
    except UnknownPlatform:
        known = ", ".join(sorted(platforms.registry()))
        errors["platform"] = [_("There is no such platform; known: %(known)s.") % {"known": known}]
    else:
        errors |= _bad_endpoint(account, platform) | _bad_credentials(account, platform)
    try:
        account.full_clean(exclude={*errors, "credentials"} & set(FIELDS))
    except ValidationError as invalid:
        errors = invalid.update_error_dict(errors)
    if errors:
        raise ValidationError(errors)


def _bad_endpoint(account: Account, platform: Platform) -> dict[str, list[str]]:
    """Also writes it in one way, so that one server has one name: no closing slash, scheme and host
    in small letters, no port that goes without saying (RFC 3986, 6.2.2.1, 6.2.3), and nothing where
    it is the platform's own address.
    """
    if not isinstance(account.endpoint, str):
        return {"endpoint": [_("This must be a text.")]}
    account.endpoint = account.endpoint.strip().rstrip("/")
    if not account.endpoint and not platform.needs_endpoint:
        return {}
    try:
        parts = urlsplit(account.endpoint)
        valid = (
            parts.scheme in platform.endpoint_schemes and bool(parts.hostname) and parts.port != 0
        )
    except ValueError:
        valid = False
    if not valid or any(one.isspace() for one in account.endpoint):
        begins = " / ".join(f"{scheme}://" for scheme in platform.endpoint_schemes)
        return {
            "endpoint": [
                _("Enter an address that begins with one of: %(begins)s") % {"begins": begins}
            ]
        }
    if parts.username is not None:
        return {"endpoint": [_("Name and password belong in the credentials.")]}
    place = parts.netloc.lower().removesuffix(DEFAULT_PORTS.get(parts.scheme, ":"))
    place = place.removesuffix(":")
    account.endpoint = urlunsplit(parts._replace(netloc=place))
    if account.endpoint == platform.default_endpoint:
        account.endpoint = ""
    return {}


def _bad_credentials(account: Account, platform: Platform) -> dict[str, list[str]]:
    """The errors of the platform's own model, each named `credentials.<field>`; no values."""
    if not isinstance(account.credentials, dict):
        return {"credentials": [_("This must be an object.")]}
    try:
        platform.credentials.model_validate(dict(account.credentials))
    except pydantic.ValidationError as invalid:
        errors: dict[str, list[str]] = {}
        for error in invalid.errors(include_input=False, include_context=False, include_url=False):
            name = ".".join(["credentials", *map(str, error["loc"])])
            errors.setdefault(name, []).append(error["msg"])
        return errors
    return {}
