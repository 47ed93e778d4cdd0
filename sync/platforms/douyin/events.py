"""Works, comments and events → records. Pure."""

from __future__ import annotations

from pydantic import ValidationError

from sync.platforms.douyin import wire
from sync.platforms.rest import moment, refused
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

MESSAGES = ("im_receive_msg", "im_send_msg")
COMMENTS = ("item_comment_reply",)
# Known, and no record: who came in or gave consent, what was read, new followers and the like.
OF_NO_INTEREST = frozenset(
    {
        "authorize",
        "contract_authorize",
        "contract_unauthorize",
        "create_video",
        "dial_phone",
        "im_authorize",
        "im_enter_direct_msg",
        "enter_im",
        "im_message_read",
        "new_follow_action",
        "unauthorize",
        "verify_webhook",
    }
)
PRIVATE_TALK = 1  # `conversation_type`


def read_event(raw: object, me: str) -> list[Record | Refused]:
    """The records of an event that was pushed. Total: what nobody knows is `Refused`."""
    try:
        event = wire.Event.model_validate(raw)
    except ValidationError as error:
        return [refused(raw, error, "delivery")]
    if event.event in OF_NO_INTEREST:
        return []
    try:
        if event.event in MESSAGES:
            return _message(raw, event, me)
        if event.event in COMMENTS:
            return _comment(raw, event, me)
    except ValidationError as error:
        kind = "message" if event.event in MESSAGES else "comment"
        ids = (event.content.get("server_message_id"), event.content.get("comment_id"))
        return [refused(raw, error, kind, ids[0] or ids[1] or "")]
    return [refused(raw, f"there is no reading for the event '{event.event[:100]}'", "delivery")]


def _message(raw: object, event: wire.Event, me: str) -> list[Record | Refused]:
    said = wire.PrivateMessage.model_validate(event.content)
    if me not in (event.from_user_id, event.to_user_id):
        why = "it is for another account: there is none with its open_id, or that has another app"
        return [refused(raw, why, "message", said.server_message_id)]
    is_ours = event.from_user_id == me
    names = _names(said.user_infos)
    other = event.to_user_id if is_ours else event.from_user_id
    is_group = said.conversation_type != PRIVATE_TALK
    rows: list[Record | Refused] = []
    if not is_group and names.get(other):
        rows.append(ConversationRecord(said.conversation_short_id, names[other]))
    attachments = (Attachment(said.resource_url),) if said.resource_url else ()
    rows.append(
        MessageRecord(
            external_id=said.server_message_id,
            conversation_id=said.conversation_short_id,
            sender_id=event.from_user_id,
            sender_name=names.get(event.from_user_id, ""),
            text=said.text,
            sent_at=moment(said.create_time / 1000),
            direction=Direction.OUTBOUND if is_ours else Direction.INBOUND,
            content_type=said.message_type or "text",
            attachments=attachments,
        )
    )
    return rows


def _comment(raw: object, event: wire.Event, me: str) -> list[Record | Refused]:
    said = wire.CommentEvent.model_validate(event.content)
    if event.to_user_id and me not in (event.to_user_id, event.from_user_id):
        return [refused(raw, "it is for another account", "comment", said.comment_id)]
    return [
        CommentRecord(
            external_id=said.comment_id,
            post_id=said.reply_to_item_id,
            parent_id=_parent(said.reply_to_comment_id),
            author_id=said.comment_user_id,
            author_name=said.nick_name,
            text=said.content,
            published_at=moment(said.create_time),
            direction=_direction(said.comment_user_id, me),
        )
    ]


def post(video: wire.Video, me: str) -> PostRecord:
    return PostRecord(
        external_id=video.item_id,
        author_id=me,
        author_name="",
        title=video.title,
        text="",
        url=video.share_url,
        published_at=moment(video.create_time),
    )


def comment(one: wire.Comment, item_id: str, parent_id: str, me: str) -> CommentRecord:
    return CommentRecord(
        external_id=one.comment_id,
        post_id=item_id,
        parent_id=parent_id,
        author_id=one.comment_user_id,
        author_name=one.nick_name,
        text=one.content,
        published_at=moment(one.create_time),
        direction=_direction(one.comment_user_id, me),
    )


def _direction(author: str, me: str) -> Direction:
    return Direction.OUTBOUND if author == me else Direction.INBOUND


def _parent(given: str) -> str:
    return "" if given == "0" else given


def _names(infos: tuple[object, ...]) -> dict[str, str]:
    """Names by open_id; a malformed one names nobody."""
    names = {}
    for raw in infos:
        try:
            info = wire.UserInfo.model_validate(raw)
        except ValidationError:
            continue
        names[info.open_id] = info.nick_name
    return names
