"""The WhatsApp Cloud API (Graph API v21.0) for one phone number, as Meta's documents have it.

What customers write, and what becomes of what was sent, it pushes, when the test says `deliver`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from tests.doubles.base import Answer, Double, serve
from tests.pushed.requests import CUSTOMER, NUMBER, WHATSAPP, notification, text_message, whatsapp

VERSION = "v21.0"
LONGEST_TEXT = 4096
WINDOW_S = 24 * 3600


class WhatsAppDouble(Double):
    def __init__(self, file: Path) -> None:
        self.token = WHATSAPP["access_token"]
        self.wrote_at: dict[str, float] = {}  # by customer
        self.received = 0
        self.sent: list[dict[str, Any]] = []
        self.pushes: list[dict[str, Any]] = []  # body and headers of each, in order
        self.next_error: tuple[int, int, str] | None = None
        self.comes_back = True
        super().__init__(file)
        self.comes_back = False

    # --- what happens -------------------------------------------------------------------------

    def do(self, order: dict[str, Any]) -> Any:
        if self.comes_back and order["order"] in ("subscribe", "deliver"):
            return None
        return getattr(self, f"_{order['order']}")(order)

    def _say(self, order: dict[str, Any]) -> str:
        """A customer writes: text, or whatever else a message may hold."""
        self.received += 1
        at = order.get("at") or time.time()
        customer = order.get("by", CUSTOMER)
        self.wrote_at[customer] = at
        more = {"from": customer, "timestamp": str(int(at)), **order.get("content", {})}
        message = text_message(self.received, order.get("text", ""), **more)
        if message["type"] != "text":
            del message["text"]
        self._push(notification(message))
        return str(message["id"])

    def _status(self, order: dict[str, Any]) -> None:
        """What becomes of what we sent."""
        status = {
            "id": order["message"],
            "status": order["status"],
            "timestamp": str(int(time.time())),
            "recipient_id": CUSTOMER,
        }
        if order["status"] == "failed":
            status["errors"] = [{"code": 131026, "title": "Message undeliverable"}]
        self._push(notification(statuses=[status]))

    def _subscribe(self, order: dict[str, Any]) -> tuple[int, str]:
        """The handshake with the address that was entered at Meta: status, and what it said."""
        asked = {
            "hub.mode": "subscribe",
            "hub.verify_token": order["verify_token"],
            "hub.challenge": "1158201444",
        }
        answer = httpx.get(order["url"], params=asked)
        return answer.status_code, answer.text

    def _deliver(self, order: dict[str, Any]) -> list[int]:
        """Push all that there was, signed with the app's secret: Meta sends some twice."""
        return [
            httpx.post(order["url"], content=one["body"], headers=one["headers"]).status_code
            for one in self.pushes
        ]

    def _push(self, body: dict[str, Any]) -> None:
        pushed = whatsapp(body)
        self.pushes.append({"body": pushed.body.decode(), "headers": pushed.headers})

    def _revoke(self, order: dict[str, Any]) -> None:
        self.token = "revoked"

    def _fail(self, order: dict[str, Any]) -> None:
        self.next_error = (order["status"], order["code"], order.get("details", ""))

    def _sent(self, order: dict[str, Any]) -> str:
        self.sent.append(order["message"])
        return f"wamid.sent{len(self.sent)}"

    def _look(self, order: dict[str, Any]) -> Any:
        return getattr(self, order["at"])

    # --- what the app may ask -----------------------------------------------------------------

    def answer(self, method: str, path: str, given: dict[str, Any]) -> Answer:
        if self.next_error:
            (status, code, details), self.next_error = self.next_error, None
            return _bad(status, code, details=details)
        if given["headers"].get("authorization") != f"Bearer {self.token}":
            return _bad(401, 190, "Error validating access token: the session has been invalidated")
        if method == "GET" and path == f"/{VERSION}/{NUMBER}":
            return 200, self._number(given.get("fields", "id").split(","))
        if method == "POST" and path == f"/{VERSION}/{NUMBER}/messages":
            return self._message(given)
        return _bad(400, 100, f"Unsupported {method.lower()} request. Object does not exist")

    def _number(self, fields: list[str]) -> dict[str, Any]:
        known = {"id": NUMBER, "display_phone_number": "+1 555-078-3881", "verified_name": "Shop"}
        return {name: known[name] for name in fields if name in known}

    def _message(self, given: dict[str, Any]) -> Answer:
        if given.get("messaging_product") != "whatsapp":
            return _bad(400, 100, "(#100) The parameter messaging_product is required.")
        text = given.get("text", {}).get("body", "")
        if not 1 <= len(text) <= LONGEST_TEXT:
            return _bad(400, 100, "(#100) Invalid parameter", "text.body is too long or empty")
        kind = "individual" if given["to"].isdecimal() else "group"
        if given.get("recipient_type", "individual") != kind:
            return _bad(400, 100, "(#100) Invalid parameter", "recipient_type does not suit to")
        if time.time() - self.wrote_at.get(given["to"], 0) > WINDOW_S:
            return _bad(400, 131047, "Re-engagement message", "more than 24 hours have passed")
        message = {name: one for name, one in given.items() if name != "headers"}
        number = self.order({"order": "sent", "message": message})
        return 200, {
            "messaging_product": "whatsapp",
            "contacts": [{"input": given["to"], "wa_id": given["to"]}],
            "messages": [{"id": number}],
        }


def _bad(status: int, code: int, message: str = "(#x) An error", details: str = "") -> Answer:
    error: dict[str, Any] = {
        "message": message,
        "type": "OAuthException",
        "code": code,
        "fbtrace_id": "A1",
    }
    if details:
        error["error_data"] = {"messaging_product": "whatsapp", "details": details}
    return status, {"error": error}


if __name__ == "__main__":
    serve(WhatsAppDouble)
