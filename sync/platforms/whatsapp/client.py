"""The Graph API over httpx: validated answers, or `sync.errors`."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from sync.errors import (
    LoginExpired,
    PlatformError,
    PlatformUnavailable,
    RateLimited,
    RequestRejected,
)
from sync.platforms import rest
from sync.platforms.whatsapp import wire

VERSION = "v21.0"
RETRY_AFTER_S = 60.0

# developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes
NO_LOGIN = {0, 102, 190}
TOO_MANY = {4, 80007, 130429, 131048, 131056, 133016}
TRY_AGAIN = {1, 2, 131000, 131016, 133004}
WINDOW_CLOSED = 131047
IN_WORDS = {
    WINDOW_CLOSED: (
        "more than 24 hours have passed since the customer last wrote: only an approved template "
        "may be sent now, and Muster sends none"
    ),
    131026: "the message can't be delivered: the number is not on WhatsApp, or takes none from you",
    131051: "WhatsApp does not take messages of this type",
    368: "the business account is blocked for policy violations",
    131031: "the business account is locked",
}

Answer = TypeVar("Answer", bound=rest.Wire)


class WhatsAppClient:
    """One phone number's requests. All methods raise `LoginExpired`, `RateLimited`,
    `PlatformUnavailable`, and `RequestRejected` for what WhatsApp refuses for good."""

    def __init__(self, http: httpx.AsyncClient, token: str, phone_number_id: str) -> None:
        self._http, self._token, self._number = http, token, phone_number_id

    async def phone_number(self) -> wire.PhoneNumber:
        fields = {"fields": "id,display_phone_number,verified_name"}
        return await self._call(wire.PhoneNumber, "GET", "", "the phone number", params=fields)

    async def send(self, to: str, text: str, key: str) -> str:
        """The id of the message. `to` is a wa_id, which is digits, or a group's id, which is not
        (developers.facebook.com/docs/whatsapp/cloud-api/groups)."""
        body = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual" if to.isdecimal() else "group",
            "to": to,
            "type": "text",
            "text": {"preview_url": False, "body": text},
            "biz_opaque_callback_data": key,
        }
        sent = await self._call(wire.Sent, "POST", "/messages", "the message", json=body)
        return sent.messages[0].id

    async def mark_read(self, message_id: str) -> None:
        """developers.facebook.com/docs/whatsapp/cloud-api/guides/mark-message-as-read"""
        body = {"messaging_product": "whatsapp", "status": "read", "message_id": message_id}
        done = await self._call(wire.Done, "POST", "/messages", "the mark", json=body)
        if not done.success:
            raise RequestRejected("WhatsApp did not mark it read, and gives no reason", 200)

    async def _call(
        self, model: type[Answer], method: str, path: str, what: str, **request: Any
    ) -> Answer:
        headers = {"Authorization": f"Bearer {self._token}"}
        address = f"/{VERSION}/{self._number}{path}"
        response = await rest.call(
            self._http, method, address, what=what, headers=headers, **request
        )
        said = rest.json_object(response)
        if not response.is_success:
            raise failure(response, said)
        try:
            return model.model_validate(said)
        except ValidationError as error:
            raise PlatformUnavailable(
                f"nonsense in answer to {what}: {rest.readable(error)}"
            ) from None


def failure(response: httpx.Response, said: dict[str, Any]) -> PlatformError:
    """The error that an unsuccessful answer stands for; by its code, as Meta advises."""
    status = response.status_code
    try:
        error = wire.GraphError.model_validate(said.get("error"))
    except ValidationError:
        return PlatformUnavailable(f"HTTP {status}: is this the Graph API?")
    code = error.code
    text = f"{code}: {error.details or error.message or f'HTTP {status}'}"
    if code in NO_LOGIN or status == httpx.codes.UNAUTHORIZED:
        return LoginExpired(text)
    if code in TOO_MANY or status == httpx.codes.TOO_MANY_REQUESTS:
        return RateLimited(text, rest.header_s(response, RETRY_AFTER_S))
    if code in TRY_AGAIN or (code not in IN_WORDS and status >= httpx.codes.INTERNAL_SERVER_ERROR):
        return PlatformUnavailable(text)
    said_plainly = f"{IN_WORDS[code]} ({text})" if code in IN_WORDS else text
    return RequestRejected(said_plainly, status, str(code))
