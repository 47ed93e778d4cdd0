"""Updates → records. Pure.

A message's id counts within its chat alone, so ours is `<chat>/<message>`. The Bot API tells of
edits, never of deletions, and keeps no history: what was not read within 24 hours is gone.
"""

from __future__ import annotations

from pydantic import ValidationError

from sync.platforms.rest import moment, refused
from sync.platforms.telegram import wire
from sync.types import (
    Attachment,
    ConversationRecord,
    Direction,
    MessageRecord,
    Record,
    Refused,
)

FILES = ("animation", "document", "video", "video_note", "audio", "voice", "sticker")
ALLOWED_UPDATES = ("message", "edited_message", "channel_post", "edited_channel_post")


def read_update(raw: object, me: int) -> list[Record | Refused]:
    """The conversation and the message of an update; nothing for what is neither. Total."""
    try:
        update = wire.Update.model_validate(raw)
    except ValidationError as error:
        return [refused(raw, error)]
    if update.held is None:
        return []
    try:
        message = wire.Message.model_validate(update.held)
    except ValidationError as error:
        return [refused(raw, error, external_id=update.update_id)]
    return [conversation(message.chat), record(message, me)]


def conversation(chat: wire.Chat) -> ConversationRecord:
    return ConversationRecord(str(chat.id), chat.name, is_group=chat.type != "private")


def record(message: wire.Message, me: int) -> MessageRecord:
    sender_id, sender_name = _sender(message)
    content_type, text, attachments = _content(message)
    return MessageRecord(
        external_id=message_id(message.chat.id, message.message_id),
        conversation_id=str(message.chat.id),
        sender_id=sender_id,
        sender_name=sender_name,
        text=text,
        sent_at=moment(message.date),
        direction=Direction.OUTBOUND if sender_id == str(me) else Direction.INBOUND,
        content_type=content_type,
        attachments=attachments,
        edited_at=moment(message.edit_date) if message.edit_date else None,
    )


def message_id(chat: int | str, message: int) -> str:
    return f"{chat}/{message}"


def _sender(message: wire.Message) -> tuple[str, str]:
    """Anonymous admins and channels write as a chat."""
    if message.sender_chat is not None:
        return str(message.sender_chat.id), message.sender_chat.name
    if message.sender is not None:
        return str(message.sender.id), message.sender.name
    return "", ""


def _content(message: wire.Message) -> tuple[str, str, tuple[Attachment, ...]]:
    """Content type, text, and files by their id: the bytes stay at Telegram (getFile)."""
    said = message.text or message.caption or ""
    if message.photo:
        return "photo", said, (_attachment(message.photo[-1]),)  # the last is the largest
    for kind in FILES:
        file: wire.File | None = getattr(message, kind)
        if file is not None:
            return kind, said or file.emoji, (_attachment(file),)
    if message.location is not None:
        return "location", f"{message.location.latitude}, {message.location.longitude}", ()
    if message.contact is not None:
        one = message.contact
        return "contact", f"{one.first_name} {one.last_name} {one.phone_number}".strip(), ()
    if message.poll is not None:
        return "poll", message.poll.question, ()
    return ("text", said, ()) if said else ("service", "", ())


def _attachment(file: wire.File) -> Attachment:
    return Attachment(f"telegram:{file.file_id}", file.file_name, file.mime_type, file.file_size)
