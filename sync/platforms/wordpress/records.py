"""Comments and posts of a WordPress site as records. Pure."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping
from datetime import datetime

from pydantic import ValidationError

from sync.platforms.markup import readable
from sync.platforms.wordpress.wire import Comment, Post, Text
from sync.types import CommentRecord, Direction, PostRecord, RecordKind, Refused

# A comment is read while it is approved or waits for approval. As spam or in the trash it is gone.
SHOWN = frozenset({"approved", "hold"})

Raw = Mapping[str, object]


def comment(raw: Raw, me: int) -> CommentRecord | Refused:
    """`me`: the account's user id, 0 when it is not known."""
    try:
        found = Comment.model_validate(raw)
    except ValidationError as error:
        return refusal(RecordKind.COMMENT, raw, error)
    is_gone = found.status not in SHOWN
    return CommentRecord(
        external_id=str(found.id),
        post_id=str(found.post),
        parent_id=str(found.parent) if found.parent else "",
        author_id=str(found.author) if found.author else found.author_email.lower(),
        author_name=html.unescape(found.author_name),
        text="" if is_gone else text_of(found.content),
        published_at=found.date_gmt,
        direction=Direction.OUTBOUND if me and found.author == me else Direction.INBOUND,
        is_deleted=is_gone,
    )


def post(raw: Raw) -> PostRecord | Refused:
    try:
        found = Post.model_validate(raw)
    except ValidationError as error:
        return refusal(RecordKind.POST, raw, error)
    return PostRecord(
        external_id=str(found.id),
        author_id=str(found.author) if found.author else "",
        author_name="",
        title=readable(found.title.rendered or found.title.raw or ""),
        text=readable(found.content.rendered or found.content.raw or ""),
        url=found.link,
        published_at=found.date_gmt,
        edited_at=found.modified_gmt if found.modified_gmt > found.date_gmt else None,
    )


def refusal(kind: RecordKind, raw: Raw, error: ValidationError) -> Refused:
    reasons = "; ".join(
        f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
        for one in error.errors(include_input=False, include_url=False)
    )
    return Refused(kind, str(raw.get("id", "")), json.dumps(raw), reasons)


def text_of(content: Text) -> str:
    """What was typed, where line ends count and few tags are allowed."""
    if content.raw is None:
        return readable(content.rendered)
    return readable(content.raw, keeps_space=True)


def as_comment(text: str) -> str:
    """An operator's plain text as WordPress takes it: signs of HTML are text."""
    return html.escape(text, quote=False)


def number(raw: Raw) -> int:
    """The object's id, 0 where it has none of sense."""
    found = raw.get("id")
    return found if isinstance(found, int) else 0


def version(raw: Raw) -> str:
    """A text that changes with each version of what is shown of the object."""
    shown = [raw.get(name) for name in ("content", "title", "status", "parent", "author_name")]
    data = json.dumps([shown, raw.get("modified_gmt")], sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:12]


def moment(raw: Raw) -> datetime | None:
    """When it was published, None where that makes no sense."""
    kind = Post if "modified_gmt" in raw else Comment
    try:
        return kind.model_validate(raw).date_gmt
    except ValidationError:
        return None
