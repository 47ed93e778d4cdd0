"""What the box for a reply needs to know, on whatever page it is [S12]."""

from __future__ import annotations

import uuid
from typing import Any

from django.urls import reverse

from sync import platforms
from sync.models import Comment, Conversation, Post
from sync.types import RecordKind

Target = Conversation | Post | Comment
TARGETS: dict[str, type[Conversation] | type[Post] | type[Comment]] = {
    "conversation": Conversation,
    "post": Post,
    "comment": Comment,
}


def thread_of(target: Target) -> Conversation | Post:
    return target.post if isinstance(target, Comment) else target


def page_of(target: Target) -> str:
    """The address of the page that shows it."""
    thread = thread_of(target)
    name = "conversation" if isinstance(thread, Conversation) else "post"
    return reverse(f"admin:sync_{name}_change", args=[thread.pk])


def reply_box(target: Target, text: str = "", trouble: str = "") -> Any:
    """Template context of `console/reply_box.html`.

    Its key is made anew for each box, so that a form that is sent twice queues one reply.
    """
    kind = next(name for name, model in TARGETS.items() if isinstance(target, model))
    platform = platforms.registry().get(target.account.platform)
    takes = platform is not None and RecordKind(kind) in platform.replies_to
    thread = thread_of(target)
    return {
        "reply_to": target,
        "reply_kind": kind,
        "reply_key": uuid.uuid4(),
        "reply_text": text,
        "reply_trouble": trouble,
        "reply_longest": platform.longest_reply if platform else 0,
        "takes_replies": takes and target.account.enabled,
        "reply_platform": platform.label if platform else target.account.platform,
        "thread_kind": "conversation" if isinstance(thread, Conversation) else "post",
        "thread_id": thread.pk,
    }
