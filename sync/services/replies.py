"""The outbox: what operators want said, from the click to the platform's answer [S12].

A reply is `pending` until it was `sent`, `failed` or `cancelled`. Each attempt is counted and
committed before the platform is asked (`begin_attempt`), so that a worker that dies leaves a doubt
and never a silence: an attempt whose outcome nobody recorded may have reached the platform, and the
next one has to ask for it first. See docs/adr/0015-outbox.md.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from sync import feed, platforms, schedule
from sync.errors import KeyReused, Rejected
from sync.merge import UNSTORABLE
from sync.models import Account, Comment, Conversation, Message, Post, Reply
from sync.services.rows import held, notify, shown
from sync.types import Direction, Lease, OutgoingReply, RecordKind, ReplyState

log = logging.getLogger(__name__)

# 2 s, doubled each time up to 5 min: about 20 minutes of an outage. Then a person decides.
MOST_ATTEMPTS = 12
LONGEST_RETRY_S = 300.0
# A request whose answer is lost may still be on its way: the platform is asked for it after this.
SETTLE_S = 30.0
LOOKED_AT = 1000  # pending replies of one account
# An equal reply that a platform has since this one was written was noted as sent at most so long
# before, by clocks that differ.
CLOCKS_APART = timedelta(hours=1)
WAITS = Q(state=ReplyState.PENDING) | Q(is_asked_for=True)  # reply_pending

Target = Conversation | Post | Comment


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send a reply. `in_doubt`: an earlier one may have reached the platform;
    `is_taken_back`: it is only asked for, and never sent again."""

    reply_id: int
    number: int
    outgoing: OutgoingReply
    in_doubt: bool
    is_taken_back: bool = False


class Queued(NamedTuple):
    """A reply in the outbox; `is_new` is false when its key had put it there before."""

    reply: Reply
    is_new: bool


# --- what people do ---------------------------------------------------------------------------


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
            _told(reply.account_id, reply.pk, "new")
            _due_now(reply.account_id)
    except IntegrityError:  # the same request, at the same time
        if earlier := Reply.objects.filter(key=reply.key).first():
            return Queued(_same(earlier, reply), is_new=False)
        raise
    reply.refresh_from_db()
    return Queued(reply, is_new=True)


def cancel_reply(reply_id: int) -> Reply:
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
        if is_being_sent(reply):
            raise Rejected(_("It is being sent right now."))
        reply.state, reply.attempts = ReplyState.CANCELLED.value, 0
        reply.is_asked_for, reply.needs_decision = reply.may_have_been_sent, False
        reply.save(update_fields=["state", "attempts", "is_asked_for", "needs_decision"])
        _told(reply.account_id, reply.pk, "changed")
        if reply.is_asked_for:
            _due_now(reply.account_id)
    return reply


def is_being_sent(reply: Reply) -> bool:
    """An attempt has begun and nobody knows its outcome yet."""
    return reply.state == ReplyState.PENDING and reply.attempted_at is not None and not reply.error


def retry_reply(reply_id: int, *, send_anyway: bool = False) -> Reply:
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
            log.info("reply is sent again anyway", extra={"reply_id": reply.pk})
        reply.state, reply.attempts = ReplyState.PENDING.value, 0
        reply.next_attempt_at, reply.needs_decision = timezone.now(), False
        reply.save(
            update_fields=["state", "attempts", "attempted_at", "next_attempt_at", "needs_decision"]
        )
        _told(reply.account_id, reply.pk, "changed")
        _due_now(reply.account_id)
    reply.refresh_from_db()
    return reply


# --- what the account's worker does -----------------------------------------------------------


def begin_attempt(lease: Lease, now: datetime) -> Attempt | None:
    """Count an attempt on the oldest reply whose turn it is; None when there is none.

    Order is kept in each thread (a conversation, a post, a comment): a reply that waits for its
    next attempt holds back those after it; one that failed or was cancelled does not. One that was
    taken back in doubt has its turn, too, to be asked for. Raises `StaleEpoch`.
    """
    with held(lease) as account:
        reply = _next(account.pk, now)
        if reply is None:
            return None
        in_doubt = reply.attempted_at is not None
        reply.attempts += 1
        if not reply.is_asked_for:
            reply.attempted_at, reply.error = now, ""
        reply.next_attempt_at = now + timedelta(seconds=SETTLE_S)
        reply.save(update_fields=["attempts", "attempted_at", "error", "next_attempt_at"])
        return Attempt(
            reply.pk,
            reply.attempts,
            _outgoing(reply, _taken_ids(reply) if in_doubt else frozenset()),
            in_doubt,
            is_taken_back=reply.is_asked_for,
        )


def record_sent(attempt: Attempt, external_id: str, now: datetime) -> None:
    """The platform has it. True whoever asks, so it counts without a lease, and against a failure
    that another attempt recorded meanwhile."""
    with transaction.atomic():
        rows = Reply.objects.filter(pk=attempt.reply_id).exclude(state=ReplyState.SENT)
        done = rows.update(
            state=ReplyState.SENT.value,
            external_id=external_id[:500],
            sent_at=now,
            error="",
            is_asked_for=False,
            needs_decision=False,
        )
        if done:
            _told(_account_of(attempt), attempt.reply_id, "changed")


def record_refused(attempt: Attempt, error: str, *, leaves_doubt: bool = False) -> None:
    """The platform refuses it for good, and does not have it: no doubt is left, unless of an
    earlier attempt that the platform was not asked about (`leaves_doubt`)."""
    values: dict[str, object] = {"error": shown(error), "state": ReplyState.FAILED.value}
    if not leaves_doubt:
        values["attempted_at"] = None
    _note(attempt, values)


def record_unknown(attempt: Attempt, error: str) -> None:
    """The platform can't be asked whether it has what an earlier attempt may have sent: it is for a
    person to look, and to have it sent again or not. One that was taken back is asked for no more.
    """
    values: dict[str, object] = {"error": shown(error), "is_asked_for": False}
    if not attempt.is_taken_back:
        values |= {"state": ReplyState.FAILED.value, "needs_decision": True}
    _note(attempt, values)


def record_absent(attempt: Attempt) -> None:
    """The platform does not have the reply that was taken back."""
    _note(attempt, {"attempted_at": None, "error": "", "is_asked_for": False})


def record_doubt(
    attempt: Attempt, error: str, next_at: datetime, *, was_not_sent: bool = False
) -> None:
    """The attempt failed, and the platform may or may not have the reply: tried again then, or
    failed after `MOST_ATTEMPTS` (one that was taken back is asked for no more). `was_not_sent`:
    this is sure, and the platform need not be asked.
    """
    is_last = attempt.number >= MOST_ATTEMPTS
    values: dict[str, object] = {"error": shown(error), "next_attempt_at": next_at}
    if attempt.is_taken_back:
        values["is_asked_for"] = not is_last
    elif is_last:
        values["state"] = ReplyState.FAILED.value
    if was_not_sent:
        values["attempted_at"] = None
    _note(attempt, values)


def wait_s(attempt: Attempt, random: float, at_least_s: float) -> float:
    """How long after a failed attempt the next one is made (s)."""
    return max(schedule.backoff_s(attempt.number, random, LONGEST_RETRY_S), at_least_s)


# --- parts ------------------------------------------------------------------------------------


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
    if UNSTORABLE.search(text):
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


def _next(account_id: int, now: datetime) -> Reply | None:
    rows = Reply.objects.select_for_update(of=("self",), no_key=True)
    pending = rows.filter(WAITS, account_id=account_id).order_by("pk")
    held_back: set[tuple[int | None, ...]] = set()
    for reply in pending.select_related("conversation", "post", "comment")[:LOOKED_AT]:
        thread = (reply.conversation_id, reply.post_id, reply.comment_id)
        if thread in held_back and not reply.is_asked_for:
            continue
        if reply.next_attempt_at <= now:
            return reply
        if not reply.is_asked_for:
            held_back.add(thread)
    return None


def _outgoing(reply: Reply, taken_ids: frozenset[str]) -> OutgoingReply:
    answers = _last_inbound(reply.conversation)
    return OutgoingReply(
        key=str(reply.key),
        text=reply.text,
        created_at=reply.created_at,
        conversation_id=reply.conversation.external_id if reply.conversation else "",
        post_id=reply.post.external_id if reply.post else "",
        parent_id=reply.comment.external_id if reply.comment else "",
        answers_id=answers.external_id if answers else "",
        answers_sender_id=answers.sender_id if answers else "",
        taken_ids=taken_ids,
    )


def _taken_ids(reply: Reply) -> frozenset[str]:
    """External ids that other replies hold in its conversation or below its post, at any place: a
    list of comments may hold the answers to them (index on conversation, post)."""
    others = Reply.objects.filter(
        conversation=reply.conversation_id,
        post=reply.post_id,
        sent_at__gte=reply.created_at - CLOCKS_APART,
    )
    held = others.exclude(pk=reply.pk).exclude(external_id="")
    return frozenset(held.values_list("external_id", flat=True))


def _last_inbound(conversation: Conversation | None) -> Message | None:
    """What a reply answers: some platforms take answers only."""
    if conversation is None:
        return None
    heard = conversation.messages.filter(direction=Direction.INBOUND.value)
    return heard.order_by("-sent_at", "-pk").first()


def _current(attempt: Attempt) -> QuerySet[Reply]:
    """The reply, as long as this is its last attempt and nobody knows better."""
    return Reply.objects.filter(
        WAITS, pk=attempt.reply_id, is_asked_for=attempt.is_taken_back, attempts=attempt.number
    )


def _note(attempt: Attempt, values: dict[str, object]) -> None:
    with transaction.atomic():
        if _current(attempt).update(**values):
            _told(_account_of(attempt), attempt.reply_id, "changed")


def _account_of(attempt: Attempt) -> int:
    return Reply.objects.values_list("account_id", flat=True).get(pk=attempt.reply_id)


def _told(account_id: int, reply_id: int, operation: str) -> None:
    feed.append(account_id, {"reply": {operation: [reply_id]}})


def _due_now(account_id: int) -> None:
    Account.objects.filter(pk=account_id).update(next_due_at=timezone.now())
    notify(account_id)
