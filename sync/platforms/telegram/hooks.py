"""What Telegram pushes. Pure."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from django.utils.translation import gettext as _
from pydantic import ValidationError

from sync.errors import BadSignature, Malformed
from sync.platforms.base import Delivery, HookRequest, Hooks
from sync.platforms.rest import readable, refused
from sync.platforms.telegram import wire
from sync.platforms.telegram.events import ALLOWED_UPDATES, read_update
from sync.platforms.telegram.place import NUMBERS_RESTART_AFTER
from sync.types import AccountRef, Record, Refused

SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105 - a header's name


class TelegramHooks(Hooks):
    """setWebhook's `secret_token` comes with each update. Updates carry no time of sending; one
    that is sent again later is a repeat by its number."""

    is_numbered: ClassVar[bool] = True
    numbers_restart_after: ClassVar[timedelta | None] = NUMBERS_RESTART_AFTER

    def setup(self, account: AccountRef, url: str) -> Sequence[tuple[str, str]]:
        allowed = json.dumps(list(ALLOWED_UPDATES))
        return [
            (_("Call setWebhook with url"), url),
            ("secret_token", _("the account's webhook_secret")),
            ("allowed_updates", allowed),
        ]

    def answer(self, account: AccountRef, request: HookRequest) -> bytes | None:
        return None

    def check(self, account: AccountRef, request: HookRequest, now: datetime) -> Delivery:
        expected = account.credentials.get("webhook_secret")
        if not isinstance(expected, str) or not expected:
            raise BadSignature("the account has no webhook_secret")
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise BadSignature("another secret token")
        try:
            update = wire.Update.model_validate(json.loads(request.body))
        except ValidationError as error:
            raise Malformed(readable(error)) from None
        except (ValueError, RecursionError):
            raise Malformed("the body is not JSON") from None
        return Delivery(str(update.update_id), _chat(update.held), number=update.update_id)

    def read(
        self, account: AccountRef, headers: Mapping[str, str], body: bytes
    ) -> Sequence[Record | Refused]:
        try:
            raw = json.loads(body)
        except (ValueError, RecursionError):
            return [refused(body.decode(errors="replace"), "the body is not JSON", "delivery")]
        return read_update(raw, bot_id(account))


def bot_id(account: AccountRef) -> int:
    """The part of the token before the colon is the bot's own id."""
    number = str(account.credentials.get("bot_token", "")).partition(":")[0]
    return int(number) if number.isdecimal() else 0


def _chat(held: object) -> str:
    chat = held.get("chat") if isinstance(held, dict) else None
    number = chat.get("id") if isinstance(chat, dict) else None
    return str(number) if isinstance(number, int) else ""
