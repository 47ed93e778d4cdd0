"""What we read of the WhatsApp Cloud API (Graph API v21.0), validated once, here."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from sync.platforms.rest import Decoration, Id, Secrets, Wire

LAST_SECOND_OF_9999 = 253_402_300_799


class WhatsAppCredentials(Secrets):
    """A system user's token; the app's secret, which signs what is pushed; and the word that was
    chosen for the handshake."""

    access_token: str = Field(min_length=8, max_length=4096, repr=False)
    app_secret: str = Field(min_length=8, max_length=512, repr=False)
    verify_token: str = Field(min_length=8, max_length=512, repr=False)


Seconds = Annotated[int, Field(ge=0, le=LAST_SECOND_OF_9999)]  # arrive as text
Listed = Annotated[tuple[object, ...], BeforeValidator(lambda one: one or ())]


class Change(Wire):
    field: str
    value: dict[str, object]


class Entry(Wire):
    id: Id
    changes: tuple[Change, ...] = ()


class Notification(Wire):
    object: str
    entry: tuple[Entry, ...]


class Metadata(Wire):
    phone_number_id: Id


class Value(Wire):
    """Messages and statuses stay raw: one that is malformed must not take the others with it."""

    metadata: Metadata
    contacts: Listed = ()
    messages: Listed = ()
    message_echoes: Listed = ()
    statuses: Listed = ()
    errors: Listed = ()


class Profile(Wire):
    name: Decoration = ""


class Contact(Wire):
    wa_id: Id
    profile: Profile = Profile()


class Text(Wire):
    body: str


class Media(Wire):
    id: Id
    mime_type: Decoration = ""
    caption: Decoration = ""
    filename: Decoration = ""


class Location(Wire):
    latitude: float
    longitude: float
    name: Decoration = ""
    address: Decoration = ""


class Reaction(Wire):
    emoji: Decoration = ""


class Button(Wire):
    text: Decoration = ""


class Chosen(Wire):
    title: Decoration = ""
    description: Decoration = ""


class Interactive(Wire):
    button_reply: Chosen | None = None
    list_reply: Chosen | None = None


class System(Wire):
    body: Decoration = ""


class Message(Wire):
    id: Id
    sender: Id = Field(alias="from")
    to: Decoration = ""
    group_id: Decoration = ""
    timestamp: Seconds
    type: str
    text: Text | None = None
    image: Media | None = None
    video: Media | None = None
    audio: Media | None = None
    document: Media | None = None
    sticker: Media | None = None
    location: Location | None = None
    reaction: Reaction | None = None
    button: Button | None = None
    interactive: Interactive | None = None
    system: System | None = None


class StatusError(Wire):
    code: int = 0
    title: Decoration = ""
    message: Decoration = ""


class Status(Wire):
    id: Id
    status: str
    errors: tuple[StatusError, ...] = ()


class PhoneNumber(Wire):
    id: Id
    display_phone_number: Decoration = ""
    verified_name: Decoration = ""


class SentMessage(Wire):
    id: Id


class Sent(Wire):
    messages: tuple[SentMessage, ...] = Field(min_length=1)


class Done(Wire):
    success: bool


class GraphError(Wire):
    code: int = 0
    message: Decoration = ""
    error_data: Annotated[
        dict[str, object], BeforeValidator(lambda one: one if isinstance(one, dict) else {})
    ] = {}

    @property
    def details(self) -> str:
        said = self.error_data.get("details")
        return said if isinstance(said, str) else ""
