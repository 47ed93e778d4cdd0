"""What operators do with the outbox: what they want said, from the click on [S12].

A reply is `pending` until it was `sent`, `failed` or `cancelled`; see `sync.services.attempts` for
what becomes of it, and docs/adr/0015-outbox.md.
"""

from __future__ import annotations

import logging
import uuid
from datetime import datetime, timedelta
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from lifecycle.storable import is_storable
from sync import feed, platforms
from sync.errors import KeyReused, Rejected
from sync.models import Account, Comment, Conversation, Post, Reply
from sync.services.rows import notify
from sync.types import RecordKind, ReplyState

log = logging.getLogger(__name__)

# No attempt lasts longer: its answer is waited for for 60 s, and 4 s more where its check is ended.
UNDER_WAY = timedelta(seconds=120)

Target = Conversation | Post | Comment


class Queued(NamedTuple):
    """A reply in the outbox; `is_new` is false when its key had put it there before."""

    reply: Reply
    is_new: bool


def queue_reply(target: Target, text: str, by: str, key: uuid.UUID | None = None) -> Queued:
    """Queue a reply; its account is due at once. The same `key` queues once.

    Raises `ValidationError` for a `text` that can't be sent; `Rejected` when the account is
    disabled or its platform takes no such reply; `KeyReused` when the key stands for another reply.
    """
    account = Account.objects.defer("credentials", "session").get(pk=target.account_id)
    reply = Reply(account=account, text=_checked(account, target, text), created_by=by)
    reply.conversation = target if isinstance(target, Conversation) else None
    reply.comment = target if isinstance(target, Comment) else None
    reply.post = target.post if isinstance(target, Comment) else None
    if isinstance(target, Post):
        reply.post = target
    reply.key = key or reply.key
    if earlier := Reply.objects.filter(key=reply.key).first():
        return Queued(_same(earlier, reply), is_new=False)
    try:
        with transaction.atomic():
            reply.save(force_insert=True)
            told(reply.account_id, reply.pk, "new")
            _due_now(reply.account_id)
    except IntegrityError:  # the same request, at the same time
        if earlier := Reply.objects.filter(key=reply.key).first():
            return Queued(_same(earlier, reply), is_new=False)
        raise
    reply.refresh_from_db()
    return Queued(reply, is_new=True)


def cancel_reply(reply_id: int, by: str) -> Reply:
    """Take a pending reply back, or give a failed one up. Cancelled twice is cancelled.

    It is not sent any more. Where an attempt's answer was lost it may have been sent before
    (`Reply.may_have_been_sent`): the platform is asked, and it is `sent` if the platform has it.
    Raises `Reply.DoesNotExist`; `Rejected` when it was sent, or while it is being sent.
    """
    with transaction.atomic():
        reply = Reply.objects.select_for_update(no_key=True).get(pk=reply_id)
        if reply.state == ReplyState.CANCELLED:
            return reply
        if reply.state == ReplyState.SENT:
            raise Rejected(_("It is too late: this reply was sent."))
        if is_being_sent(reply, timezone.now()):
            raise Rejected(_("It is being sent right now."))
        reply.state, reply.attempts = ReplyState.CANCELLED.value, 0
        reply.is_asked_for, reply.needs_decision = reply.may_have_been_sent, False
        reply.save(update_fields=["state", "attempts", "is_asked_for", "needs_decision"])
        told(reply.account_id, reply.pk, "changed")
        if reply.is_asked_for:
            _due_now(reply.account_id)
    _note("taken back", reply, by)
    return reply


def is_being_sent(reply: Reply, now: datetime) -> bool:
    """An attempt has begun and nobody knows its outcome yet. Whoever was killed in it left a doubt:
    that may be taken back, however long the account is not checked."""
    return (
        reply.state == ReplyState.PENDING
        and reply.attempted_at is not None
        and not reply.error
        and now < reply.attempted_at + UNDER_WAY
    )


def retry_reply(reply_id: int, by: str, *, send_anyway: bool = False) -> Reply:
    """Try a failed reply again; whether it was sent after all is asked first.

    `send_anyway`: a person has decided that one whose platform can't be asked is sent again, though
    it may arrive twice. Raises `Reply.DoesNotExist`; `Rejected` when it did not fail, its account
    is disabled, or its platform has still to be asked.
    """
    with transaction.atomic():
        reply = Reply.objects.select_for_update(no_key=True).get(pk=reply_id)
        if reply.state == ReplyState.PENDING:
            return reply
        if reply.state != ReplyState.FAILED:
            state = reply.get_state_display()
            raise Rejected(
                _("Only a failed reply is tried again; this one is “%(state)s”.") % {"state": state}
            )
        account = Account.objects.defer("credentials", "session").get(pk=reply.account_id)
        _require_enabled(account)
        if send_anyway and reply.attempted_at is not None:
            if not reply.needs_decision:
                raise Rejected(_("Try again first: the platform is asked whether it has it."))
            reply.attempted_at = None  # no doubt is left to ask about
        reply.state, reply.attempts = ReplyState.PENDING.value, 0
        reply.next_attempt_at, reply.needs_decision = timezone.now(), False
        reply.save(
            update_fields=["state", "attempts", "attempted_at", "next_attempt_at", "needs_decision"]
        )
        told(reply.account_id, reply.pk, "changed")
        _due_now(reply.account_id)
    _note("sent again anyway" if send_anyway else "tried again", reply, by)
    reply.refresh_from_db()
    return reply


def _note(what: str, reply: Reply, by: str) -> None:
    about = {"actor": by, "reply_id": reply.pk, "account_id": reply.account_id}
    log.info("reply %s", what, extra=about)


def _checked(account: Account, target: Target, text: str) -> str:
    """The text as it is sent. Raises as `queue_reply`."""
    platform = platforms.get(account.platform)
    _require_enabled(account)
    kind = _kind(target)
    if kind not in platform.replies_to:
        what = {
            RecordKind.CONVERSATION: _("conversations"),
            RecordKind.POST: _("posts"),
            RecordKind.COMMENT: _("comments"),
        }[kind]
        raise Rejected(
            _("%(platform)s takes no replies to %(what)s.")
            % {"platform": platform.label, "what": what}
        )
    if getattr(target, "is_deleted", False):
        raise Rejected(_("What you reply to was deleted on the platform."))
    text = text.strip()
    if not text:
        raise _bad_text(_("Write something first."), "blank")
    if len(text) > platform.longest_reply:
        says = _("At most %(most)s characters can be sent; this has %(has)s.")
        raise _bad_text(says % {"most": platform.longest_reply, "has": len(text)}, "max_length")
    if not is_storable(text):
        raise _bad_text(_("This holds a character that can't be sent."), "invalid")
    return text


def _bad_text(message: str, code: str) -> ValidationError:
    return ValidationError({"text": ValidationError(message, code=code)})


def _kind(target: Target) -> RecordKind:
    match target:
        case Conversation():
            return RecordKind.CONVERSATION
        case Post():
            return RecordKind.POST
        case Comment():
            return RecordKind.COMMENT


def _require_enabled(account: Account) -> None:
    if not account.enabled:
        raise Rejected(_("%(account)s is disabled; enable it first.") % {"account": account})


def _same(earlier: Reply, wanted: Reply) -> Reply:
    """The reply that the key stands for already. Raises `KeyReused`."""
    fields = ("account_id", "conversation_id", "post_id", "comment_id", "text")
    if any(getattr(earlier, name) != getattr(wanted, name) for name in fields):
        raise KeyReused(_("This idempotency key was used for another reply."))
    return earlier


def told(account_id: int, reply_id: int, operation: str) -> None:
    feed.append(account_id, {"reply": {operation: [reply_id]}})


def _due_now(account_id: int) -> None:
    Account.objects.filter(pk=account_id).update(next_due_at=timezone.now())
    notify(account_id)
