"""What we read of the Telegram Bot API (9.x), validated once, here."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from sync.platforms.rest import Decoration, Secrets, Wire

LAST_SECOND_OF_9999 = 253_402_300_799

Seconds = Annotated[int, Field(ge=0, le=LAST_SECOND_OF_9999)]
Size = Annotated[
    int | None, BeforeValidator(lambda size: size if isinstance(size, int) and size >= 0 else None)
]


class TelegramCredentials(Secrets):
    """The token that BotFather gave; and, if Telegram shall push, the secret of the webhook."""

    bot_token: str = Field(pattern=r"^\d{1,20}:[A-Za-z0-9_-]{20,100}$", repr=False)
    webhook_secret: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{16,256}$", repr=False)


class Me(Wire):
    id: int
    username: str = ""


class WebhookInfo(Wire):
    url: str = ""
    pending_update_count: int = 0
    last_error_message: Decoration = ""


class User(Wire):
    id: int
    is_bot: bool = False
    first_name: Decoration = ""
    last_name: Decoration = ""
    username: Decoration = ""

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip() or self.username or str(self.id)


class Chat(Wire):
    id: int
    type: str
    title: Decoration = ""
    first_name: Decoration = ""
    last_name: Decoration = ""
    username: Decoration = ""

    @property
    def name(self) -> str:
        person = f"{self.first_name} {self.last_name}".strip()
        return self.title or person or self.username or str(self.id)


class File(Wire):
    """Whatever has a `file_id`: photo size, document, video, voice, sticker …"""

    file_id: str
    file_name: Decoration = ""
    mime_type: Decoration = ""
    file_size: Size = None
    emoji: Decoration = ""


class Location(Wire):
    latitude: float
    longitude: float


class Contact(Wire):
    phone_number: str
    first_name: Decoration = ""
    last_name: Decoration = ""


class Poll(Wire):
    question: str


class Message(Wire):
    message_id: int
    chat: Chat
    date: Seconds
    edit_date: Seconds | None = None
    sender: User | None = Field(None, alias="from")
    sender_chat: Chat | None = None
    text: str | None = None
    caption: str | None = None
    photo: tuple[File, ...] = ()
    document: File | None = None
    video: File | None = None
    video_note: File | None = None
    animation: File | None = None
    audio: File | None = None
    voice: File | None = None
    sticker: File | None = None
    location: Location | None = None
    contact: Contact | None = None
    poll: Poll | None = None


class Update(Wire):
    """The envelope; what it holds is validated by itself, so that each can be refused alone."""

    update_id: Annotated[int, Field(ge=0, lt=2**63)]
    message: object = None
    edited_message: object = None
    channel_post: object = None
    edited_channel_post: object = None

    @property
    def held(self) -> object:
        """The message in it, None when it holds something that is not ours to keep."""
        return self.message or self.edited_message or self.channel_post or self.edited_channel_post


class Sent(Wire):
    message_id: int
    chat: Chat
