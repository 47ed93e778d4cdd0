"""What Douyin pushes. Pure."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha1, sha256
from typing import ClassVar

from django.utils.translation import gettext as _
from pydantic import ValidationError

from sync.errors import BadSignature, Malformed
from sync.platforms.base import Delivery, HookRequest, Hooks
from sync.platforms.douyin import wire
from sync.platforms.douyin.events import COMMENTS, MESSAGES, read_event
from sync.platforms.rest import readable, refused
from sync.types import AccountRef, Record, Refused

SIGNATURE_HEADER = "x-douyin-signature"
ID_HEADER = "msg-id"
HANDSHAKE = "verify_webhook"
LONGEST_ID = 150
# Douyin tries three times at once; older is somebody who sends again what was captured. Less than
# the time for which deliveries are remembered, so that anything younger is found to be a repeat.
OLDEST = timedelta(days=14)
MILLISECONDS_SINCE = 100_000_000_000  # as seconds this would be the year 5138


class DouyinHooks(Hooks):
    """The signature is SHA-1 of the app's secret followed by the raw body (Webhooks, overview);
    what is sent again carries the same Msg-Id."""

    kept_headers: ClassVar[frozenset[str]] = frozenset({ID_HEADER})

    def setup(self, account: AccountRef, url: str) -> Sequence[tuple[str, str]]:
        return [
            (_("Open Platform console, Development, Webhooks: request URL"), url),
            (_("Events to subscribe to"), ", ".join((*MESSAGES, *COMMENTS))),
            (_("Signed with"), _("the account's client_secret")),
        ]

    def answer(self, account: AccountRef, request: HookRequest) -> bytes | None:
        """The challenge of `verify_webhook`. One that is signed wrongly is not answered; one that
        is not signed at all is: it gets back what it brought."""
        if request.method != "POST" or HANDSHAKE.encode() not in request.body:
            return None
        try:
            event = wire.Event.model_validate(json.loads(request.body))
        except (ValueError, RecursionError):
            return None
        if event.event != HANDSHAKE:
            return None
        if request.headers.get(SIGNATURE_HEADER):
            _require_signature(account, request)
        return json.dumps({"challenge": event.content.get("challenge")}).encode()

    def check(self, account: AccountRef, request: HookRequest, now: datetime) -> Delivery:
        _require_signature(account, request)
        try:
            event = wire.Event.model_validate(json.loads(request.body))
        except ValidationError as error:
            raise Malformed(readable(error)) from None
        except (ValueError, RecursionError):
            raise Malformed("the body is not JSON") from None
        _require_fresh(event, now)
        given = request.headers.get(ID_HEADER, "")
        body_id = sha256(request.body).hexdigest()
        return Delivery(
            delivery_id=given if 0 < len(given) <= LONGEST_ID else body_id,
            order_key=_order_key(event),
            recipient=event.from_user_id if event.event == "im_send_msg" else event.to_user_id,
        )

    def read(
        self, account: AccountRef, headers: Mapping[str, str], body: bytes
    ) -> Sequence[Record | Refused]:
        try:
            raw = json.loads(body)
        except (ValueError, RecursionError):
            return [refused(body.decode(errors="replace"), "the body is not JSON", "delivery")]
        return read_event(raw, account.identifier)


def _require_signature(account: AccountRef, request: HookRequest) -> None:
    secret = str(account.credentials.get("client_secret", "")).encode()
    expected = sha1(secret + request.body, usedforsecurity=False).hexdigest()  # theirs to choose
    given = request.headers.get(SIGNATURE_HEADER, "").lower()
    if not secret or not hmac.compare_digest(given.encode(), expected.encode()):
        raise BadSignature("the signature is not that of the app's secret")


def _require_fresh(event: wire.Event, now: datetime) -> None:
    """By the time in it; one without any is taken."""
    given = str(event.content.get("create_time", ""))
    if not given.isdecimal() or len(given) > 15:
        return
    seconds = int(given) / (1000 if int(given) >= MILLISECONDS_SINCE else 1)
    if seconds < (now - OLDEST).timestamp():
        raise BadSignature("it is too old to be sent now")


def _order_key(event: wire.Event) -> str:
    key = event.content.get("conversation_short_id") or event.content.get("reply_to_item_id")
    return str(key)[:500] if isinstance(key, str | int) else ""
