"""What the account's worker does with the outbox: attempts to send, and what became of them [S12].

Each attempt is counted and committed before the platform is asked (`begin_attempt`), so that a
worker that dies leaves a doubt and never a silence: an attempt whose outcome nobody recorded may
have reached the platform, and the next one has to ask for it first. See docs/adr/0015-outbox.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet

from sync import schedule
from sync.models import Conversation, Message, Reply
from sync.services.replies import told
from sync.services.rows import held, shown
from sync.types import Direction, Lease, OutgoingReply, ReplyState

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


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send a reply. `in_doubt`: an earlier one may have reached the platform;
    `is_taken_back`: it is only asked for, and never sent again."""

    reply_id: int
    number: int
    outgoing: OutgoingReply
    in_doubt: bool
    is_taken_back: bool = False


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
            told(_account_of(attempt), attempt.reply_id, "changed")


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
            told(_account_of(attempt), attempt.reply_id, "changed")


def _account_of(attempt: Attempt) -> int:
    return Reply.objects.values_list("account_id", flat=True).get(pk=attempt.reply_id)
