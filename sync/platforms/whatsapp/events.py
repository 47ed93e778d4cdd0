"""Notifications → records. Pure.

A conversation is who writes to us (the `wa_id`), or a group. There is no history to ask for: what
is not pushed is not to be had. Notifications come doubled and out of order; records don't mind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from sync.platforms.rest import moment, refused
from sync.platforms.whatsapp import wire
from sync.types import (
    Attachment,
    ConversationRecord,
    Direction,
    MessageRecord,
    Record,
    Refused,
)

MEDIA = ("image", "video", "audio", "document", "sticker")


def read_notification(raw: object, phone_number_id: str) -> list[Record | Refused]:
    """All that a notification says to that number. Total: the rest is `Refused`."""
    try:
        notification = wire.Notification.model_validate(raw)
    except ValidationError as error:
        return [refused(raw, error, "delivery")]
    rows: list[Record | Refused] = []
    for entry in notification.entry:
        for change in entry.changes:
            rows += _change(change, phone_number_id)
    return rows


def phone_numbers(notification: wire.Notification) -> set[str]:
    """Whom it is for, by the numbers' ids."""
    found = set()
    for entry in notification.entry:
        for change in entry.changes:
            metadata = change.value.get("metadata")
            number = metadata.get("phone_number_id") if isinstance(metadata, dict) else None
            if isinstance(number, str | int):
                found.add(str(number))
    return found


def _change(change: wire.Change, phone_number_id: str) -> Iterator[Record | Refused]:
    if change.field not in ("messages", "smb_message_echoes"):
        return  # account alerts, template reviews and the like hold no messages
    try:
        value = wire.Value.model_validate(change.value)
    except ValidationError as error:
        yield refused(_notification(change.field, change.value), error, "delivery")
        return
    if value.metadata.phone_number_id != phone_number_id:
        why = f"it is for another number ({value.metadata.phone_number_id})"
        yield refused(_notification(change.field, change.value), why, "delivery")
        return
    part = _Part(change, _names(value.contacts), phone_number_id)
    for one in value.messages:
        yield from part.message("messages", one, Direction.INBOUND)
    for one in value.message_echoes:
        yield from part.message("message_echoes", one, Direction.OUTBOUND)
    for one in value.statuses:
        yield from part.status(one)
    for one in value.errors:
        yield part.refuse("errors", one, "WhatsApp reports an error", kind="delivery")


def _notification(field: str, value: dict[str, object]) -> dict[str, object]:
    """A part of a notification as one of its own: what a dead letter holds can be read again."""
    changes = [{"field": field, "value": value}]
    return {"object": "whatsapp_business_account", "entry": [{"id": "0", "changes": changes}]}


def _names(contacts: Iterable[object]) -> dict[str, str]:
    """Names by wa_id; a malformed one names nobody."""
    names = {}
    for raw in contacts:
        try:
            contact = wire.Contact.model_validate(raw)
        except ValidationError:
            continue
        names[contact.wa_id] = contact.profile.name or contact.wa_id
    return names


@dataclass(frozen=True, slots=True)
class _Part:
    """One change of a notification, item by item."""

    change: wire.Change
    names: dict[str, str]
    phone_number_id: str

    def message(self, listed: str, raw: object, direction: Direction) -> Iterator[Record | Refused]:
        try:
            message = wire.Message.model_validate(raw)
        except ValidationError as error:
            yield self.refuse(listed, raw, error)
            return
        is_ours = direction is Direction.OUTBOUND
        other = message.to if is_ours else message.sender
        talk = message.group_id or other
        if not talk:
            yield self.refuse(listed, raw, "it does not say to whom it was sent")
            return
        if message.group_id:  # no notification has its name
            yield ConversationRecord(talk, talk, is_group=True)
        elif other in self.names or not is_ours:
            yield ConversationRecord(talk, self.names.get(other, other))
        content_type, text, attachments = _content(message)
        yield MessageRecord(
            external_id=message.id,
            conversation_id=talk,
            sender_id=self.phone_number_id if is_ours else message.sender,
            sender_name="" if is_ours else self.names.get(message.sender, message.sender),
            text=text,
            sent_at=moment(message.timestamp),
            direction=direction,
            content_type=content_type,
            attachments=attachments,
        )

    def status(self, raw: object) -> Iterator[Refused]:
        """Sent, delivered and read are no records. One that failed must be seen: nobody got it."""
        try:
            status = wire.Status.model_validate(raw)
        except ValidationError as error:
            yield self.refuse("statuses", raw, error, kind="status")
            return
        if status.status == "failed":
            why = "; ".join(f"{one.code}: {one.title or one.message}" for one in status.errors)
            text = f"WhatsApp could not deliver what was sent: {why or 'no reason given'}"
            yield self.refuse("statuses", raw, text, kind="status")

    def refuse(
        self, listed: str, raw: object, error: ValidationError | str, kind: str = "message"
    ) -> Refused:
        value = self.change.value
        alone: dict[str, object] = {
            name: value[name] for name in ("metadata", "contacts") if name in value
        }
        given = raw.get("id") if isinstance(raw, dict) else ""
        whole = _notification(self.change.field, {**alone, listed: [raw]})
        return refused(whole, error, kind, given)


def _content(message: wire.Message) -> tuple[str, str, tuple[Attachment, ...]]:
    """Content type, text, and files by their id: the bytes stay at WhatsApp."""
    for kind in MEDIA:
        media: wire.Media | None = getattr(message, kind)
        if message.type == kind and media is not None:
            file = Attachment(f"whatsapp:{media.id}", media.filename, media.mime_type)
            return kind, media.caption, (file,)
    return message.type, _said(message), ()


def _said(message: wire.Message) -> str:
    if message.text is not None:
        return message.text.body
    if message.location is not None:
        place = message.location
        where = f"{place.latitude}, {place.longitude}"
        return " ".join(part for part in (place.name, place.address, where) if part)
    if message.interactive is not None:
        chosen = message.interactive.button_reply or message.interactive.list_reply
        return chosen.title if chosen else ""
    if message.button is not None:
        return message.button.text
    if message.reaction is not None:
        return message.reaction.emoji
    return message.system.body if message.system is not None else ""
