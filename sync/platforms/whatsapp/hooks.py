"""What WhatsApp pushes (Meta's webhooks). Pure."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from django.utils.translation import gettext as _
from pydantic import ValidationError

from sync.errors import BadSignature, Malformed
from sync.platforms.base import Delivery, HookRequest, Hooks
from sync.platforms.rest import readable, refused
from sync.platforms.whatsapp import wire
from sync.platforms.whatsapp.events import phone_numbers, read_notification
from sync.types import AccountRef, Record, Refused

SIGNATURE_HEADER = "x-hub-signature-256"
# Meta tries for 7 days; older is somebody who sends again what was captured. Less than the time
# for which deliveries are remembered, so that anything younger is found to be a repeat.
OLDEST = timedelta(days=14)


class WhatsAppHooks(Hooks):
    """The signature is HMAC-SHA256 of the raw body by the app's secret. Meta names no delivery: the
    same bytes are the same one."""

    def setup(self, account: AccountRef, url: str) -> Sequence[tuple[str, str]]:
        return [
            (_("Meta app, WhatsApp, Configuration: Callback URL"), url),
            (_("Verify token"), _("the account's verify_token")),
            (_("Webhook fields"), "messages, smb_message_echoes"),
        ]

    def answer(self, account: AccountRef, request: HookRequest) -> bytes | None:
        if request.method != "GET" or request.query.get("hub.mode") != "subscribe":
            return None
        if not _same(account, "verify_token", request.query.get("hub.verify_token", "")):
            raise BadSignature("another verify token")
        return request.query.get("hub.challenge", "").encode()

    def check(self, account: AccountRef, request: HookRequest, now: datetime) -> Delivery:
        secret = str(account.credentials.get("app_secret", "")).encode()
        mac = hmac.new(secret, request.body, sha256).hexdigest()
        given = request.headers.get(SIGNATURE_HEADER, "")
        if not secret or not hmac.compare_digest(given.encode(), f"sha256={mac}".encode()):
            raise BadSignature("the signature is not that of the app's secret")
        try:
            raw = json.loads(request.body)
            notification = wire.Notification.model_validate(raw)
        except ValidationError as error:
            raise Malformed(readable(error)) from None
        except (ValueError, RecursionError):
            raise Malformed("the body is not JSON") from None
        _require_fresh(notification, now)
        numbers = phone_numbers(notification)
        return Delivery(
            delivery_id=sha256(request.body).hexdigest(),
            order_key=_conversation(notification),
            recipient=numbers.pop() if len(numbers) == 1 else "",
        )

    def read(
        self, account: AccountRef, headers: Mapping[str, str], body: bytes
    ) -> Sequence[Record | Refused]:
        try:
            raw = json.loads(body)
        except (ValueError, RecursionError):
            return [refused(body.decode(errors="replace"), "the body is not JSON", "delivery")]
        return read_notification(raw, account.identifier)


def _same(account: AccountRef, name: str, given: str) -> bool:
    expected = str(account.credentials.get(name, "")).encode()
    return bool(expected) and hmac.compare_digest(given.encode(), expected)


def _require_fresh(notification: wire.Notification, now: datetime) -> None:
    """By the newest time in it; one without any is taken."""
    times = [
        int(time)
        for item in _items(notification)
        if (time := str(item.get("timestamp", ""))).isdecimal() and len(time) < 12
    ]
    if times and max(times) < (now - OLDEST).timestamp():
        raise BadSignature("it is too old to be sent now")


def _conversation(notification: wire.Notification) -> str:
    others = {str(item.get("from") or item.get("recipient_id")) for item in _items(notification)}
    only = others.pop() if len(others) == 1 else ""
    return only if only != "None" else ""


def _items(notification: wire.Notification) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for entry in notification.entry:
        for change in entry.changes:
            for name in ("messages", "message_echoes", "statuses"):
                listed = change.value.get(name)
                if isinstance(listed, list):
                    found += [item for item in listed if isinstance(item, dict)]
    return found
