"""What we read of the Douyin Open Platform, validated once, here.

Numbers may arrive as texts, ids as numbers, and the `content` of an event as an object or as the
JSON text of one.
"""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from sync.platforms.rest import Decoration, Id, Secrets, Wire, as_text

LAST_SECOND_OF_9999 = 253_402_300_799
NOT_TOLD = -1  # how many


def object_or_its_text(value: object) -> object:
    """Raises `ValueError` for a text that is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value else {}
    except RecursionError:
        raise ValueError("nested too deeply") from None


def zero_or_number(value: object) -> object:
    return 0 if value in (None, "") else value


def or_not_told(value: object) -> object:
    return NOT_TOLD if value in (None, "") else value


Number = Annotated[int, BeforeValidator(zero_or_number)]
Seconds = Annotated[int, Field(ge=0, le=LAST_SECOND_OF_9999)]
Milliseconds = Annotated[int, Field(ge=0, le=LAST_SECOND_OF_9999 * 1000)]
Cursor = Annotated[str, BeforeValidator(as_text)]  # the platform's own; never made by us
Listed = Annotated[tuple[object, ...], BeforeValidator(lambda one: one or ())]


class DouyinCredentials(Secrets):
    """The app's key and secret, the address that its owner registered for OAuth, and, where a
    person's consent was asked elsewhere, the refresh token that came of it."""

    client_key: str = Field(min_length=1, max_length=200)
    client_secret: str = Field(min_length=8, max_length=200, repr=False)
    redirect_uri: str | None = Field(None, min_length=8, max_length=1000)
    refresh_token: str | None = Field(None, min_length=8, max_length=1000, repr=False)

    @model_validator(mode="after")
    def _one_way_in(self) -> DouyinCredentials:
        if not self.redirect_uri and not self.refresh_token:
            raise PydanticCustomError("no_way_in", "give a redirect_uri or a refresh_token")
        return self


class Session(Wire):
    """What is stored after a login. Times are seconds since 1970."""

    access_token: str = Field("", repr=False)
    refresh_token: str = Field("", repr=False)
    open_id: str = ""
    expires_at: float = 0
    refresh_expires_at: float = 0


class Said(Wire):
    """Every answer: `data` says how it went, `extra` repeats it."""

    error_code: Number = 0
    description: Decoration = ""


class Token(Wire):
    access_token: str = Field(min_length=1, repr=False)
    refresh_token: str = Field("", repr=False)
    open_id: str = ""
    expires_in: Number = 0
    refresh_expires_in: Number = 0


class Renewed(Wire):
    refresh_token: str = Field(min_length=1, repr=False)
    expires_in: Number = 0


class Page(Wire):
    """A page of any list; the items stay raw, so that each can be refused alone."""

    cursor: Cursor = "0"
    has_more: bool = False
    list: Listed = ()


class Statistics(Wire):
    comment_count: Annotated[int, BeforeValidator(or_not_told)] = NOT_TOLD


class Video(Wire):
    item_id: Id
    title: Decoration = ""
    share_url: Decoration = ""
    create_time: Seconds
    statistics: Annotated[
        Statistics, BeforeValidator(lambda one: one if isinstance(one, dict) else {})
    ] = Statistics()


class Comment(Wire):
    comment_id: Id
    comment_user_id: Id
    content: str = ""
    create_time: Seconds
    reply_comment_total: Number = 0
    nick_name: Decoration = ""


class Replied(Wire):
    comment_id: Id


class SentMessage(Wire):
    msg_id: Id


class Event(Wire):
    """What is pushed."""

    event: str = Field(min_length=1)
    client_key: Decoration = ""
    from_user_id: Annotated[str, BeforeValidator(as_text)] = ""
    to_user_id: Annotated[str, BeforeValidator(as_text)] = ""
    content: Annotated[dict[str, object], BeforeValidator(object_or_its_text)] = {}


class UserInfo(Wire):
    open_id: Id
    nick_name: Decoration = ""


class PrivateMessage(Wire):
    """`content` of im_receive_msg and im_send_msg."""

    conversation_short_id: Id
    server_message_id: Id
    message_type: str = "text"
    text: Decoration = ""
    create_time: Milliseconds
    user_infos: Listed = ()
    resource_url: Decoration = ""
    conversation_type: Number = 1


class CommentEvent(Wire):
    """`content` of item_comment_reply."""

    comment_id: Id
    comment_user_id: Id
    content: Decoration = ""
    create_time: Seconds
    reply_to_comment_id: Annotated[str, BeforeValidator(as_text)] = ""
    reply_to_item_id: Id
    nick_name: Decoration = ""
