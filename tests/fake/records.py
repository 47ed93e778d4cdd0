"""The fake platform's records: JSON → ours, one by one, or refused [S6]. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sync.types import (
    Attachment,
    CommentRecord,
    ConversationRecord,
    Direction,
    MessageRecord,
    PostRecord,
    Record,
    Refused,
)
from sync.weights import Row

LATEST_MS = 253_402_300_799_000  # the last second that a `datetime` can hold


class File(BaseModel):
    url: str
    name: str = ""
    media_type: str = ""
    size: int | None = None


class Conversation(BaseModel):
    id: str
    title: str
    group: bool = False


class Written(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    id: str
    thread: str = ""
    parent: str = ""
    title: str = ""
    sender: str = ""
    name: str = ""
    text: str
    at: int = Field(ge=0, le=LATEST_MS)
    own: bool = False
    files: tuple[File, ...] = ()
    edited: int | None = None
    deleted: bool = False

    @property
    def written_at(self) -> datetime:
        return moment(self.at)

    @property
    def edited_at(self) -> datetime | None:
        return None if self.edited is None else moment(self.edited)

    @property
    def direction(self) -> Direction:
        return Direction.OUTBOUND if self.own else Direction.INBOUND


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def conversation(raw: dict[str, Any]) -> Record:
    given = Conversation.model_validate(raw)
    return ConversationRecord(given.id, given.title, given.group)


def message(raw: dict[str, Any]) -> Record:
    given = Written.model_validate(raw)
    return MessageRecord(
        external_id=given.id,
        conversation_id=given.thread,
        sender_id=given.sender,
        sender_name=given.name,
        text=given.text,
        sent_at=given.written_at,
        direction=given.direction,
        attachments=tuple(Attachment(**file.model_dump()) for file in given.files),
        edited_at=given.edited_at,
        is_deleted=given.deleted,
    )


def post(raw: dict[str, Any]) -> Record:
    given = Written.model_validate(raw)
    return PostRecord(
        external_id=given.id,
        author_id=given.sender,
        author_name=given.name,
        title=given.title,
        text=given.text,
        url=f"https://fake.example/{given.id}",
        published_at=given.written_at,
        edited_at=given.edited_at,
        is_deleted=given.deleted,
    )


def comment(raw: dict[str, Any]) -> Record:
    given = Written.model_validate(raw)
    return CommentRecord(
        external_id=given.id,
        post_id=given.thread,
        parent_id=given.parent,
        author_id=given.sender,
        author_name=given.name,
        text=given.text,
        published_at=given.written_at,
        direction=given.direction,
        edited_at=given.edited_at,
        is_deleted=given.deleted,
    )


READERS: dict[str, Callable[[dict[str, Any]], Record]] = {
    "conversation": conversation,
    "message": message,
    "post": post,
    "comment": comment,
}


def read_records(raws: Sequence[dict[str, Any]]) -> list[Row]:
    """Each as a record of ours or a refusal."""
    return [read_record(raw) for raw in raws]


def read_record(raw: dict[str, Any]) -> Row:
    kind, id = str(raw.get("type", "")), str(raw.get("id", ""))
    if kind not in READERS:
        return Refused(kind, id, json.dumps(raw), f"unknown record kind '{kind}'")
    try:
        return READERS[kind](raw)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        return Refused(kind, id, json.dumps(raw), problems)
