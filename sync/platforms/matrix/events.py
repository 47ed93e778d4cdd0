"""Timeline events → message records. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pydantic import ValidationError

from sync.platforms.matrix import wire
from sync.types import Attachment, Direction, MessageRecord, Refused

NAME_LIMIT = 500  # characters, as the columns for names
CONTENT_TYPE_LIMIT = 100
# We hold no keys of encrypted rooms. Such a message is shown as what it is, not left out.
ENCRYPTED_TEXT = "\N{LOCK}"
# Parts of `unsigned` that speak of the answer, not of the event ("UnsignedData").
OF_THE_ANSWER = {"age", "transaction_id"}


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of one room's timeline, read."""

    messages: tuple[MessageRecord, ...] = ()
    refused: tuple[Refused, ...] = ()
    # Edits and redactions of events that are not in this stretch, as they came, by their id.
    elsewhere: dict[str, list[object]] = field(default_factory=dict)


def read_timeline(room_id: str, raws: Iterable[object], names: dict[str, str], me: str) -> Page:
    """Each event of `raws` (any order), ended as a message, a refusal, or a change of a message.

    `names` are display names by user id; `me` is the user id of the watched account, whose own
    messages are outbound. Events that are neither messages nor changes of them (state, reactions)
    are not ours to keep.
    """
    messages: dict[str, MessageRecord] = {}
    refused: list[Refused] = []
    changes: list[tuple[wire.Event, str, object]] = []
    for raw in raws:
        try:
            event = wire.Event.model_validate(raw)
            if target := changed_event(event):
                changes.append((event, target, raw))
            elif event.type in {"m.room.message", "m.room.encrypted", "m.sticker"}:
                messages[event.event_id] = message(room_id, event, names, me)
        except ValidationError as error:
            refused.append(refusal(placed(raw, room_id), error))
    elsewhere: dict[str, list[object]] = {}
    for event, target, raw in sorted(changes, key=lambda change: age(change[0])):
        if target not in messages:
            elsewhere.setdefault(target, []).append(raw)
            continue
        try:
            messages[target] = changed(messages[target], event)
        except ValidationError as error:
            refused.append(refusal(placed(raw, room_id), error))
    return Page(tuple(messages.values()), tuple(refused), elsewhere)


def message(room_id: str, event: wire.Event, names: dict[str, str], me: str) -> MessageRecord:
    """The message that an event is, its bundled latest edit applied. Raises `ValidationError`."""
    blank = MessageRecord(
        external_id=event.event_id,
        conversation_id=room_id,
        sender_id=event.sender,
        sender_name=names.get(event.sender, event.sender)[:NAME_LIMIT],
        text="",
        sent_at=moment(event.origin_server_ts),
        direction=Direction.OUTBOUND if event.sender == me else Direction.INBOUND,
    )
    if event.unsigned.redacted_because is not None:
        return deleted(blank)
    if event.type == "m.room.encrypted":
        return replace(blank, text=ENCRYPTED_TEXT, content_type="encrypted")
    filled = with_content(blank, wire.MessageContent.model_validate(event.content), event.type)
    if event.unsigned.relations is None or event.unsigned.relations.replace is None:
        return filled
    try:
        return changed(filled, wire.Event.model_validate(event.unsigned.relations.replace))
    except ValidationError:  # a malformed edit leaves the message as it was
        return filled


def changed_event(event: wire.Event) -> str:
    """The id of the event that `event` edits or redacts, "" when it is neither."""
    if event.type == "m.room.redaction":
        target = event.redacts or event.content.get("redacts")
        return target if isinstance(target, str) else ""
    if event.type != "m.room.message" or "m.relates_to" not in event.content:
        return ""
    relation = wire.Related.model_validate(event.content).relates_to
    is_edit = relation is not None and relation.rel_type == "m.replace"
    return (relation.event_id or "") if relation and is_edit else ""


def changed(record: MessageRecord, event: wire.Event) -> MessageRecord:
    """`record` after an edit or redaction of it. Raises `ValidationError`.

    Only its author may edit a message, and a deleted one stays deleted ("Event replacements").
    """
    if event.type == "m.room.redaction":
        return deleted(record)
    edited_at = moment(event.origin_server_ts)
    is_stale = record.edited_at is not None and edited_at < record.edited_at
    is_withdrawn = event.unsigned.redacted_because is not None
    if record.is_deleted or is_stale or is_withdrawn or event.sender != record.sender_id:
        return record
    content = wire.EditContent.model_validate(event.content).new_content
    return replace(with_content(record, content, "m.room.message"), edited_at=edited_at)


def deleted(record: MessageRecord) -> MessageRecord:
    return replace(record, text="", attachments=(), is_deleted=True)


def with_content(record: MessageRecord, content: wire.MessageContent, kind: str) -> MessageRecord:
    content_type = content.msgtype if kind == "m.room.message" else kind
    return replace(
        record,
        text=content.body,
        content_type=content_type.removeprefix("m.")[:CONTENT_TYPE_LIMIT] or "text",
        attachments=attachments(content),
    )


def attachments(content: wire.MessageContent) -> tuple[Attachment, ...]:
    """The file that a message carries, by its mxc address; the bytes stay on the server."""
    if not content.address:
        return ()
    info = content.info or wire.Info()
    name = content.filename or content.body
    return (Attachment(content.address, name[:NAME_LIMIT], info.mimetype or "", info.size),)


def member_names(raws: Iterable[object]) -> dict[str, str]:
    """Display names by user id, from the m.room.member events among `raws`, the last one counts.

    A malformed one names nobody: then the user id stands in.
    """
    names: dict[str, str] = {}
    for raw in raws:
        event = state_event(raw)
        if event is None or event.type != "m.room.member":
            continue
        try:
            member = wire.Member.model_validate(event.content)
        except ValidationError:
            continue
        names[event.state_key] = member.displayname or event.state_key
    return names


def state_event(raw: object) -> wire.StateEvent | None:
    if not isinstance(raw, dict) or "state_key" not in raw:
        return None
    try:
        return wire.StateEvent.model_validate(raw)
    except ValidationError:
        return None


def refusal(raw: object, error: ValidationError | str, kind: str = "message") -> Refused:
    """`raw` as a dead letter [S6], with an error that people can read."""
    event_id = raw.get("event_id") if isinstance(raw, dict) else None
    return Refused(
        kind=kind,
        external_id=str(wire.storable(event_id))[:NAME_LIMIT] if isinstance(event_id, str) else "",
        raw=json.dumps(raw),
        error=error if isinstance(error, str) else readable(error),
    )


def placed(raw: object, room_id: str) -> object:
    """An event with its room, which /sync leaves out: so that it can be read again by itself; and
    without what differs with each answer: read again it is the same."""
    if not isinstance(raw, dict):
        return raw
    event = {**raw, "room_id": room_id}
    if isinstance(unsigned := raw.get("unsigned"), dict):
        event["unsigned"] = {k: v for k, v in unsigned.items() if k not in OF_THE_ANSWER}
    return event


def read_again(raw: object, me: str) -> list[MessageRecord | Refused]:
    """What a refused event is to today's code. Total: what it is not is refused once more."""
    room_id = raw.get("room_id") if isinstance(raw, dict) else None
    if not isinstance(room_id, str) or not room_id:
        return [refusal(raw, "this is no event of a room")]
    page = read_timeline(room_id, [raw], {}, me)
    changes = [
        refusal(change, f"it changes {target}: an audit fetches that as it is now")
        for target, found in page.elsewhere.items()
        for change in found
    ]
    read: list[MessageRecord | Refused] = [*page.messages, *page.refused, *changes]
    return read or [refusal(raw, "this is no message")]


def readable(error: ValidationError) -> str:
    """The problems of `error`, each with its place and without the values."""
    problems = error.errors(include_url=False, include_input=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'event'}: {problem['msg']}"
        for problem in problems
    )


def moment(ms: int) -> datetime:
    """`origin_server_ts` (milliseconds since 1970) as an aware time."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def age(event: wire.Event) -> tuple[int, str]:
    """The order in which edits count: by time, then by id (spec, "Event replacements")."""
    return event.origin_server_ts, event.event_id
