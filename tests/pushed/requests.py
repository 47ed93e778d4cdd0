"""Bodies in the shapes of the documents, and the headers that they come with.

Nothing here was recorded from a live account: there was none.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha1, sha256
from typing import Any

ME = "0da22181-d833-447f-995f-1beefea5bef3"  # Douyin: the account's open_id
FAN = "ba253642-0590-40bc-9bdf-9a1334b94059"
NUMBER = "106540352242922"  # WhatsApp: the id of the account's phone number
CUSTOMER = "16505551234"
BOT = 123456
BOB = 7001
PERSON = 42

DOUYIN = {
    "client_key": "tt10abc",
    "client_secret": "d0uyin-s3cret",
    "refresh_token": "rft.aaaaaaaa",
}
TELEGRAM = {
    "bot_token": f"{BOT}:ABC-DEF1234ghIkl-zyx57W2v1u123ew11",
    "webhook_secret": "telegram_secret_0123",
}
WHATSAPP = {
    "access_token": "EAAG-token-0123",
    "app_secret": "app-s3cret-0123",
    "verify_token": "meatyhamhock",
}


@dataclass(frozen=True)
class Pushed:
    """One request."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# --- Douyin -----------------------------------------------------------------------------------


def douyin(event: object, msg_id: str = "", secret: str = DOUYIN["client_secret"]) -> Pushed:
    body = event if isinstance(event, bytes) else compact(event)
    signature = sha1(secret.encode() + body, usedforsecurity=False).hexdigest()
    headers = {"X-Douyin-Signature": signature, "Content-Type": "application/json"}
    return Pushed(body, headers | ({"Msg-Id": msg_id} if msg_id else {}))


def private_message(
    number: int,
    text: str = "你好",
    *,
    talk: str = "@talk==",
    event: str = "im_receive_msg",
    as_text: bool = True,
    at: datetime | None = None,
    **more: Any,
) -> dict[str, Any]:
    """`content` is JSON text, as it mostly is, or an object."""
    content = {
        "conversation_short_id": talk,
        "server_message_id": f"@message-{number}",
        "conversation_type": 1,
        "create_time": int((at or datetime.now(UTC)).timestamp() * 1000),
        "message_type": "text",
        "source": "",
        "text": text,
        "user_infos": [
            {"open_id": FAN, "nick_name": "小红", "avatar": "https://p.example/1.jpeg"},
            {"open_id": ME, "nick_name": "商店", "avatar": "https://p.example/2.jpeg"},
        ],
        **more,
    }
    mine = event == "im_send_msg"
    return {
        "event": event,
        "client_key": DOUYIN["client_key"],
        "from_user_id": ME if mine else FAN,
        "to_user_id": FAN if mine else ME,
        "log_id": "2022120516373301015903714833078B1B",
        "content": json.dumps(content, ensure_ascii=False) if as_text else content,
    }


def comment_event(number: int, text: str = "好看", **more: Any) -> dict[str, Any]:
    content = {
        "comment_id": f"@comment-{number}",
        "comment_user_id": FAN,
        "content": text,
        "create_time": int(datetime.now(UTC).timestamp()),
        "digg_count": "0",
        "reply_comment_total": "0",
        "reply_to_comment_id": "0",
        "reply_to_item_id": "@item-1",
        "at_user_id": "",
        "nick_name": "小红",
        **more,
    }
    return {
        "event": "item_comment_reply",
        "client_key": DOUYIN["client_key"],
        "from_user_id": FAN,
        "to_user_id": ME,
        "content": json.dumps(content, ensure_ascii=False),
    }


# --- Telegram ---------------------------------------------------------------------------------


def telegram(update: object, secret: str = TELEGRAM["webhook_secret"]) -> Pushed:
    body = update if isinstance(update, bytes) else compact(update)
    token = {"X-Telegram-Bot-Api-Secret-Token": secret}
    return Pushed(body, {**token, "Content-Type": "application/json"})


def chat(number: int = BOB, **more: Any) -> dict[str, Any]:
    return {"id": number, "first_name": "Bob", "last_name": "B", "type": "private", **more}


def update(
    number: int, text: str = "hello", *, kind: str = "message", **more: Any
) -> dict[str, Any]:
    message = {
        "message_id": number,
        "from": {"id": PERSON, "is_bot": False, "first_name": "Bob", "last_name": "B"},
        "chat": chat(),
        "date": int(datetime.now(UTC).timestamp()),
        "text": text,
        **more,
    }
    return {"update_id": number, kind: message}


# --- WhatsApp ---------------------------------------------------------------------------------


def whatsapp(notification: object, secret: str = WHATSAPP["app_secret"]) -> Pushed:
    body = notification if isinstance(notification, bytes) else compact(notification)
    mac = hmac.new(secret.encode(), body, sha256).hexdigest()
    return Pushed(
        body, {"X-Hub-Signature-256": f"sha256={mac}", "Content-Type": "application/json"}
    )


def text_message(number: int, text: str = "hello", **more: Any) -> dict[str, Any]:
    return {
        "from": CUSTOMER,
        "id": f"wamid.{number}",
        "timestamp": str(int(datetime.now(UTC).timestamp())),
        "type": "text",
        "text": {"body": text},
        **more,
    }


def notification(
    *messages: dict[str, Any],
    statuses: list[dict[str, Any]] | None = None,
    number: str = NUMBER,
    field: str = "messages",
    **more: Any,
) -> dict[str, Any]:
    value: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": number},
        **more,
    }
    if messages:
        value["contacts"] = [{"profile": {"name": "Kerry"}, "wa_id": CUSTOMER}]
        value["messages"] = list(messages)
    if statuses:
        value["statuses"] = statuses
    changes = [{"value": value, "field": field}]
    return {"object": "whatsapp_business_account", "entry": [{"id": "1022", "changes": changes}]}
