"""The Telegram Bot API for one bot, as core.telegram.org/bots/api has it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from tests.doubles.base import Answer, Double, serve

BOT = 123456
MOST_UPDATES = 100


class TelegramDouble(Double):
    def __init__(self, file: Path) -> None:
        self.token = f"{BOT}:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"
        self.webhook = ""
        self.updates: dict[int, dict[str, Any]] = {}
        self.next_update = 1000
        self.chats: dict[int, dict[str, Any]] = {}
        self.said: dict[int, dict[int, dict[str, Any]]] = {}  # messages by chat
        self.poll: object = None  # the getUpdates that waits
        super().__init__(file)

    # --- what happens -------------------------------------------------------------------------

    def do(self, order: dict[str, Any]) -> Any:
        return getattr(self, f"_{order['order']}")(order)

    def _chat(self, order: dict[str, Any]) -> int:
        number = 7000 + len(self.chats)
        self.chats[number] = {"id": number, "type": "private", "first_name": "Fränzi 王"}
        self.said[number] = {}
        return number

    def _say(self, order: dict[str, Any]) -> list[str]:
        """Texts, or whatever else messages may hold."""
        talk, made = order["chat"], []
        for content in order["contents"]:
            number = len(self.said[talk]) + 1
            message = {
                "message_id": number,
                "chat": self.chats[talk],
                "date": int(order.get("at") or time.time()),
                "from": {"id": 42, "is_bot": False, "first_name": "Fränzi 王"},
                **content,
            }
            self.said[talk][number] = message
            self._push("message", message)
            made.append(f"{talk}/{number}")
        return made

    def _edit(self, order: dict[str, Any]) -> None:
        message = self.said[order["chat"]][order["message"]]
        # Seconds: an edit in the same second must still be a later one for us.
        edited = max(int(time.time()), message.get("edit_date", 0) + 1)
        message = {**message, "text": order["text"], "edit_date": edited}
        self.said[order["chat"]][order["message"]] = message
        self._push("edited_message", message)

    def _sent(self, order: dict[str, Any]) -> dict[str, Any]:
        talk = order["chat"]
        number = len(self.said[talk]) + 1
        sent = {"message_id": number, "chat": self.chats[talk], "text": order["text"]}
        self.said[talk][number] = {**sent, "date": int(time.time())}
        return sent

    def _confirm(self, order: dict[str, Any]) -> None:
        self.updates = {n: one for n, one in self.updates.items() if n >= order["offset"]}

    def _expire(self, order: dict[str, Any]) -> None:
        """What was not read within 24 hours."""
        self.updates.clear()

    def _revoke(self, order: dict[str, Any]) -> None:
        self.token = f"{BOT}:another-token-of-the-same-bot-0000"

    def _set_webhook(self, order: dict[str, Any]) -> None:
        self.webhook = order["url"]

    def _texts(self, order: dict[str, Any]) -> list[str]:
        return [one.get("text", "") for one in self.said[order["chat"]].values()]

    def _push(self, kind: str, message: dict[str, Any]) -> None:
        self.updates[self.next_update] = {"update_id": self.next_update, kind: message}
        self.next_update += 1

    # --- what the bot may ask -----------------------------------------------------------------

    def answer(self, method: str, path: str, given: dict[str, Any]) -> Answer:
        _nothing, token, name = [*path.split("/"), "", ""][:3]
        if token != f"bot{self.token}":
            return _bad(401, "Unauthorized")
        calls = {
            "getMe": lambda _given: _good({"id": BOT, "is_bot": True, "username": "sales_bot"}),
            "getUpdates": self._get_updates,
            "getWebhookInfo": lambda _given: _good({"url": self.webhook}),
            "sendMessage": self._send_message,
        }
        return calls[name](given) if name in calls else _bad(404, "Not Found: method not found")

    def _get_updates(self, given: dict[str, Any]) -> Answer:
        if self.webhook:
            return _bad(409, "Conflict: can't use getUpdates method while webhook is active")
        if given.get("offset"):
            self.order({"order": "confirm", "offset": given["offset"]})
        mine = self.poll = object()
        ends = time.monotonic() + given.get("timeout", 0)
        with self.changed:
            self.changed.notify_all()  # only one may wait
            while not self.updates and self.poll is mine and time.monotonic() < ends:
                self.changed.wait(ends - time.monotonic())
            if self.poll is not mine:
                return _bad(409, "Conflict: terminated by other getUpdates request")
            return _good(list(self.updates.values())[: min(given.get("limit", 100), MOST_UPDATES)])

    def _send_message(self, given: dict[str, Any]) -> Answer:
        talk = int(given["chat_id"])
        if talk not in self.chats:
            return _bad(400, "Bad Request: chat not found")
        if len(given["text"]) > 4096:
            return _bad(400, "Bad Request: message is too long")
        return _good(self.order({"order": "sent", "chat": talk, "text": given["text"]}))


def _good(result: object) -> Answer:
    return 200, {"ok": True, "result": result}


def _bad(status: int, description: str) -> Answer:
    return status, {"ok": False, "error_code": status, "description": description}


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    serve(TelegramDouble)
