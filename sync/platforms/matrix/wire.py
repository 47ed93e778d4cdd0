"""What we read of the Matrix Client-Server API, validated once, here (spec v1.11).

Events stay raw in the envelopes: one that is malformed must not take its neighbours with it, so
`events` validates them one by one.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

LAST_SECOND_OF_9999_MS = 253_402_300_799_000


def storable(text: object) -> object:
    """`text` without what PostgreSQL can't hold: NUL and lone surrogates become U+FFFD."""
    if not isinstance(text, str):
        return text
    if text.isascii():
        return text.replace("\0", "\ufffd")
    return (
        text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


def storable_or_none(text: object) -> object:
    """For what only decorates: one that is malformed is as good as none."""
    return storable(text) if isinstance(text, str) else None


Text = Annotated[str, BeforeValidator(storable)]
Decoration = Annotated[str | None, BeforeValidator(storable_or_none)]
Id = Annotated[str, BeforeValidator(storable), Field(min_length=1, max_length=255)]


class Wire(BaseModel):
    """Frozen; fields that we don't read are ignored; an error never quotes what it was given."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )


class LoginAnswer(Wire):
    access_token: str = Field(repr=False)
    device_id: str
    user_id: str


class WhoAmI(Wire):
    user_id: str
    device_id: str = ""


class Joined(Wire):
    room_id: Id


class JoinedRooms(Wire):
    joined_rooms: tuple[Id, ...]


class Nothing(Wire):
    """An answer of which nothing is read."""


class Sent(Wire):
    event_id: Id


class Profile(Wire):
    display_name: Decoration = None


class JoinedMembers(Wire):
    joined: dict[str, Profile]


class Info(Wire):
    mimetype: Text | None = None
    size: Annotated[int, Field(ge=0, lt=2**53)] | None = None


class EncryptedFile(Wire):
    url: Text


class Relation(Wire):
    rel_type: str | None = None
    event_id: str | None = None


class MessageContent(Wire):
    """`content` of m.room.message and m.sticker (a sticker has no msgtype)."""

    msgtype: Text = ""
    body: Text
    filename: Text | None = None
    url: Text | None = None
    file: EncryptedFile | None = None
    info: Info | None = None

    @property
    def address(self) -> str:
        """The mxc address of the file, "" when there is none."""
        return self.url or (self.file.url if self.file else "")


class EditContent(Wire):
    new_content: MessageContent = Field(alias="m.new_content")


class Related(Wire):
    """The part of a content that says what it relates to."""

    relates_to: Relation | None = Field(None, alias="m.relates_to")


class Bundle(Wire):
    replace: object = Field(None, alias="m.replace")


class Unsigned(Wire):
    redacted_because: object = None
    relations: Bundle | None = Field(None, alias="m.relations")


class Event(Wire):
    """The envelope of a timeline event. `redacts` is in the content since room version 11."""

    event_id: Id
    type: str
    sender: Id
    origin_server_ts: int = Field(ge=0, le=LAST_SECOND_OF_9999_MS)
    content: dict[str, object] = {}
    unsigned: Unsigned = Unsigned()
    redacts: str | None = None


class Member(Wire):
    displayname: Decoration = None


class Name(Wire):
    name: Text | None = None


class AnyContent(Wire):
    """The content of a state event, whatever it is."""

    model_config = ConfigDict(extra="allow")


class CanonicalAlias(Wire):
    alias: Text | None = None


class StateEvent(Wire):
    """An event with a `state_key`."""

    type: str
    state_key: str
    content: dict[str, object] = {}


class Summary(Wire):
    heroes: tuple[str, ...] | None = Field(None, alias="m.heroes")
    joined: int | None = Field(None, alias="m.joined_member_count")
    invited: int | None = Field(None, alias="m.invited_member_count")

    @property
    def members(self) -> int | None:
        """Joined and invited, we included; None when the server said nothing new."""
        return None if self.joined is None else self.joined + (self.invited or 0)


class Timeline(Wire):
    events: tuple[object, ...] = ()
    limited: bool = False
    prev_batch: str | None = None


class State(Wire):
    events: tuple[object, ...] = ()


class Room(Wire):
    summary: Summary = Summary()
    state: State = State()
    timeline: Timeline = Timeline()


class Rooms(Wire):
    join: dict[str, Room] = {}
    leave: dict[str, Room] = {}
    invite: dict[str, object] = {}


class SyncAnswer(Wire):
    next_batch: str
    rooms: Rooms = Rooms()


class MessagesAnswer(Wire):
    """A page of history, newest first. No `end`: there is nothing further."""

    chunk: tuple[object, ...] = ()
    state: tuple[object, ...] = ()
    end: str | None = None


class ContextAnswer(Wire):
    """One event, with the members that it speaks of in `state`."""

    event: object
    state: tuple[object, ...] = ()
