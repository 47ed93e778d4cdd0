"""The outbox [S12]: queued, sent once, cancelled, tried again."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, connections
from django.utils import timezone

from sync import platforms, services, store
from sync.errands.replies import send_replies
from sync.errors import (
    KeyReused,
    LoginExpired,
    PlatformUnavailable,
    RateLimited,
    Rejected,
    RequestRejected,
    StaleEpoch,
    Unreachable,
)
from sync.merge import merge
from sync.models import (
    Account,
    Audit,
    Comment,
    Conversation,
    FeedEntry,
    LoginSession,
    Message,
    Post,
    Reply,
)
from sync.queries import thread_replies
from sync.services import attempts as outbox
from sync.services.replies import UNDER_WAY
from sync.types import Batch, Direction, Lease
from tests.db.engine_stage import check as engine_check
from tests.db.errand_stage import OutboxPlatform, check_of, drive, due, perform
from tests.db.sync_stage import comment, conversation, make_account, message, post, script

pytestmark = pytest.mark.django_db


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OutboxPlatform:
    made = OutboxPlatform(tmp_path / "sent.jsonl")
    monkeypatch.setattr(platforms, "registry", lambda: {"tiny": made})
    return made


@pytest.fixture
def account(platform: OutboxPlatform) -> Account:
    made = make_account(next_due_at=timezone.now() + timedelta(hours=1))
    batch = Batch("c", (conversation("c1"), conversation("c2"), post(1), comment(1), comment(2)))
    store.ingest(Lease(made.pk, made.epoch), 0, merge(batch))
    made.refresh_from_db()
    return made


@pytest.fixture
def talk(account: Account) -> Conversation:
    return Conversation.objects.get(external_id="c1")


def send(account: Account, platform: OutboxPlatform) -> None:
    """What the account's next check does, once replies that wait for another attempt may go."""
    Reply.objects.filter(outbox.WAITS).update(next_attempt_at=timezone.now())
    perform(send_replies, account, platform)


def states() -> list[tuple[str, str]]:
    return list(Reply.objects.order_by("pk").values_list("text", "state"))


def failing(*errors: Exception | None, point: str = "before send") -> Callable[[str], Any]:
    """Raises the errors in turn at that point, then nothing."""
    left = list(errors)

    async def at(here: str) -> None:
        if here == point and left and (error := left.pop(0)):
            raise error

    return at


# --- queueing ---------------------------------------------------------------------------------


def test_a_queued_reply_makes_its_account_due_and_is_sent(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    assert not due(account)
    reply = services.queue_reply(talk, "  hello\n", "ann").reply
    assert due(account)
    assert (reply.state, reply.text, reply.created_by) == ("pending", "hello", "ann")
    perform(send_replies, account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.external_id, reply.attempts, reply.error) == (
        "sent", "sent-1", 1, "",
    )  # fmt: skip
    assert reply.sent_at is not None
    assert platform.texts == ["hello"]
    told = FeedEntry.objects.filter(changes__has_key="reply").order_by("pk")
    assert [entry.changes["reply"] for entry in told] == [
        {"new": [reply.pk]},
        {"changed": [reply.pk]},
    ]


def test_a_reply_below_a_comment_names_post_and_parent(
    account: Account, platform: OutboxPlatform
) -> None:
    services.queue_reply(Comment.objects.get(external_id="k2"), "thanks", "ann")
    attempt = outbox.begin_attempt(Lease(account.pk, account.epoch), timezone.now())
    assert attempt is not None
    assert (attempt.outgoing.post_id, attempt.outgoing.parent_id) == ("p1", "k2")
    assert attempt.outgoing.conversation_id == ""


@pytest.mark.parametrize(
    ("text", "code"),
    [("", "blank"), (" \n\t", "blank"), ("x" * 1001, "max_length"), ("a\x00b", "invalid")],
)
def test_texts_that_cannot_be_sent_name_the_field(talk: Conversation, text: str, code: str) -> None:
    with pytest.raises(ValidationError) as refused:
        services.queue_reply(talk, text, "ann")
    assert refused.value.error_dict["text"][0].code == code
    assert not Reply.objects.exists()


def test_what_cannot_be_answered_is_refused(
    account: Account, talk: Conversation, platform: OutboxPlatform, monkeypatch: Any
) -> None:
    Comment.objects.update(is_deleted=True)
    with pytest.raises(Rejected, match="deleted"):
        services.queue_reply(Comment.objects.all()[0], "x", "ann")
    monkeypatch.setattr(OutboxPlatform, "replies_to", frozenset())
    with pytest.raises(Rejected, match="Outbox takes no replies to posts"):
        services.queue_reply(Post.objects.get(), "x", "ann")
    Account.objects.update(enabled=False)
    with pytest.raises(Rejected, match="disabled"):
        services.queue_reply(talk, "x", "ann")
    assert not Reply.objects.exists()


def test_one_key_queues_once_and_never_something_else(talk: Conversation) -> None:
    key = uuid.uuid4()
    first = services.queue_reply(talk, "hello", "ann", key)
    again = services.queue_reply(talk, "hello", "ann", key)
    assert (first.is_new, again.is_new, again.reply.pk) == (True, False, first.reply.pk)
    with pytest.raises(KeyReused):
        services.queue_reply(talk, "other", "ann", key)
    assert Reply.objects.count() == 1


# --- cancelling and trying again --------------------------------------------------------------


def test_a_pending_reply_is_taken_back(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    reply = services.queue_reply(talk, "oops", "ann").reply
    assert services.cancel_reply(reply.pk, "ann").state == "cancelled"
    assert services.cancel_reply(reply.pk, "ann").state == "cancelled"
    send(account, platform)
    assert platform.texts == []


def test_what_is_being_sent_or_was_sent_cannot_be_taken_back(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    reply = services.queue_reply(talk, "hello", "ann").reply
    outbox.begin_attempt(Lease(account.pk, account.epoch), timezone.now())
    with pytest.raises(Rejected, match="being sent"):
        services.cancel_reply(reply.pk, "ann")
    send(account, platform)
    with pytest.raises(Rejected, match="was sent"):
        services.cancel_reply(reply.pk, "ann")
    with pytest.raises(Rejected, match="failed"):
        services.retry_reply(reply.pk, "ann")


def test_what_a_killed_worker_began_is_taken_back_though_nobody_checks_the_account(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    reply = services.queue_reply(talk, "hello", "ann").reply
    begun = timezone.now() - UNDER_WAY
    Reply.objects.update(next_attempt_at=begun)
    outbox.begin_attempt(Lease(account.pk, account.epoch), begun)
    Account.objects.update(enabled=False)
    reply.refresh_from_db()
    assert services.is_being_sent(reply, timezone.now() - timedelta(seconds=5))
    assert not services.is_being_sent(reply, timezone.now())
    taken = services.cancel_reply(reply.pk, "ann")
    assert (taken.state, taken.is_asked_for) == ("cancelled", True)
    Account.objects.update(enabled=True)
    send(account, platform)
    reply.refresh_from_db()
    assert (platform.texts, reply.state, reply.is_asked_for) == ([], "cancelled", False)


def test_a_refused_reply_fails_with_the_platforms_answer_and_a_person_tries_again(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    platform.at = failing(RequestRejected("you are banned from this room", 403))
    reply = services.queue_reply(talk, "hello", "ann").reply
    after = services.queue_reply(talk, "after", "bob").reply
    send(account, platform)
    reply.refresh_from_db()
    after.refresh_from_db()
    assert (reply.state, reply.error) == ("failed", "you are banned from this room")
    assert after.state == "sent", "a failed one does not hold back those after it"
    services.retry_reply(reply.pk, "ann")
    assert due(account)
    send(account, platform)
    assert states() == [("hello", "sent"), ("after", "sent")]


def test_a_failed_reply_is_given_up(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    platform.at = failing(RequestRejected("no", 403))
    reply = services.queue_reply(talk, "hello", "ann").reply
    send(account, platform)
    given_up = services.cancel_reply(reply.pk, "ann")
    assert (given_up.state, given_up.may_have_been_sent) == ("cancelled", False), "it was refused"
    assert list(thread_replies(talk)) == []


def cut_off(account: Account, talk: Conversation, platform: OutboxPlatform, point: str) -> Reply:
    """A reply whose attempt failed there, and who took it back."""
    reply = services.queue_reply(talk, "oops", "ann").reply
    platform.at = failing(PlatformUnavailable("cut"), point=point)
    with pytest.raises(PlatformUnavailable):
        send(account, platform)
    return services.cancel_reply(reply.pk, "ann")


@pytest.mark.parametrize("point", ["before send", "sent"])
def test_one_taken_back_in_doubt_is_asked_for_and_never_sent_again(
    account: Account, talk: Conversation, platform: OutboxPlatform, point: str
) -> None:
    reply = cut_off(account, talk, platform, point)
    assert (reply.state, reply.may_have_been_sent) == ("cancelled", True)
    assert [one.pk for one in thread_replies(talk)] == [reply.pk]
    assert due(account)
    before = list(platform.texts)
    services.queue_reply(talk, "the next", "ann")
    perform(send_replies, account, platform)
    assert platform.texts == [*before, "the next"], "it is not its turn yet, and holds nothing back"
    send(account, platform)
    reply.refresh_from_db()
    was_sent = point == "sent"
    assert (reply.state, reply.external_id) == (
        ("sent", "sent-1") if was_sent else ("cancelled", "")
    )
    assert (reply.may_have_been_sent, reply.is_asked_for, reply.error) == (False, False, "")
    send(account, platform)
    assert platform.texts == [*before, "the next"]


@pytest.mark.parametrize("why", [RequestRejected("nobody can ask", 0), NotImplementedError()])
def test_one_taken_back_that_cannot_be_asked_for_may_have_been_sent(
    account: Account, talk: Conversation, platform: OutboxPlatform, why: Exception
) -> None:
    reply = cut_off(account, talk, platform, "before send")
    platform.at = failing(why, point="before find")
    send(account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.may_have_been_sent, reply.is_asked_for) == ("cancelled", True, False)
    assert "ask" in reply.error
    send(account, platform)
    assert platform.texts == []


def test_it_is_asked_for_as_often_as_it_would_be_sent(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    reply = cut_off(account, talk, platform, "sent")
    for _ in range(outbox.MOST_ATTEMPTS):
        reply.refresh_from_db()
        assert reply.is_asked_for
        platform.at = failing(PlatformUnavailable("away"), point="before find")
        with pytest.raises(PlatformUnavailable):
            send(account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.may_have_been_sent, reply.is_asked_for) == ("cancelled", True, False)
    assert platform.texts == ["oops"]


def test_work_waits_for_one_that_is_asked_for(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    cut_off(account, talk, platform, "sent")
    now = timezone.now()
    assert "replies" not in services.begin_run(Lease(account.pk, account.epoch), now).work
    Reply.objects.update(next_attempt_at=now - timedelta(seconds=1))
    assert "replies" in services.begin_run(Lease(account.pk, account.epoch), now).work


# --- doubts -----------------------------------------------------------------------------------


def test_an_outage_leaves_a_doubt_and_order_is_kept_in_each_thread(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    other = Conversation.objects.get(external_id="c2")
    services.queue_reply(talk, "one", "ann")
    services.queue_reply(talk, "two", "ann")
    services.queue_reply(other, "elsewhere", "ann")
    platform.at = failing(PlatformUnavailable("away"))
    with pytest.raises(PlatformUnavailable):
        perform(send_replies, account, platform)
    first = Reply.objects.get(text="one")
    assert (first.state, first.error, first.attempts) == ("pending", "away", 1)
    assert first.next_attempt_at > timezone.now() + timedelta(seconds=outbox.SETTLE_S - 5)
    perform(send_replies, account, platform)
    assert platform.texts == ["elsewhere"], "`two` waits for `one`; another thread does not"
    send(account, platform)
    send(account, platform)
    assert platform.texts == ["elsewhere", "one", "two"]


def test_a_lost_answer_is_asked_for_before_sending_again(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    reply = services.queue_reply(talk, "hello", "ann").reply
    platform.at = failing(PlatformUnavailable("cut"), point="sent")
    with pytest.raises(PlatformUnavailable):
        send(account, platform)
    send(account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.external_id) == ("sent", "sent-1")
    assert platform.texts == ["hello"]


def test_a_platform_that_sends_once_is_not_asked(
    account: Account, talk: Conversation, platform: OutboxPlatform, monkeypatch: Any
) -> None:
    monkeypatch.setattr(OutboxPlatform, "sends_once", True)
    asked: list[str] = []
    services.queue_reply(talk, "hello", "ann")
    platform.at = failing(PlatformUnavailable("away"))
    with pytest.raises(PlatformUnavailable):
        send(account, platform)

    async def at(point: str) -> None:
        asked.append(point)

    platform.at = at
    send(account, platform)
    assert asked == ["before send", "sent"]


def test_an_outage_that_lasts_becomes_a_failure_with_the_last_answer(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    reply = services.queue_reply(talk, "hello", "ann").reply
    for number in range(outbox.MOST_ATTEMPTS):
        platform.at = failing(PlatformUnavailable(f"away {number}"))
        with pytest.raises(PlatformUnavailable):
            send(account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.error) == ("failed", f"away {outbox.MOST_ATTEMPTS - 1}")
    send(account, platform)
    assert platform.texts == []
    services.retry_reply(reply.pk, "ann")
    send(account, platform)
    assert platform.texts == ["hello"]


def test_a_rate_limit_is_kept(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    services.queue_reply(talk, "hello", "ann")
    platform.at = failing(RateLimited("slow down", 300.0))
    with pytest.raises(RateLimited):
        send(account, platform)
    waits = Reply.objects.get().next_attempt_at - timezone.now()
    assert waits > timedelta(seconds=290)


@pytest.mark.parametrize("asked", [999_999_999.0, 1e300, math.inf, math.nan, -1.0])
def test_no_platform_parks_a_reply_for_longer_than_a_day(
    account: Account, talk: Conversation, platform: OutboxPlatform, asked: float
) -> None:
    services.queue_reply(talk, "hello", "ann")
    platform.at = failing(RateLimited("slow down", asked))
    with pytest.raises(RateLimited):
        send(account, platform)
    reply = Reply.objects.get()
    assert (reply.state, reply.error) == ("pending", "slow down")
    assert timedelta(0) < reply.next_attempt_at - timezone.now() <= timedelta(days=1)


def test_what_surely_was_not_sent_is_sent_again_without_asking(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    """Some platforms can't be asked: a doubt that is none must not end there."""
    services.queue_reply(talk, "hello", "ann")
    errors = [RateLimited("slow down", 1.0), Unreachable("no connection")]
    for error in errors:
        platform.at = failing(error)
        with pytest.raises(type(error)):
            send(account, platform)
    platform.at = failing(RequestRejected("nobody can ask", 0), point="before find")
    send(account, platform)
    assert states() == [("hello", "sent")]


def lost_and_unknown(account: Account, talk: Conversation, platform: OutboxPlatform) -> Reply:
    """A reply whose answer was lost, on a platform that can't be asked for it."""
    reply = services.queue_reply(talk, "hello", "ann").reply
    platform.at = failing(PlatformUnavailable("cut"), point="sent")
    with pytest.raises(PlatformUnavailable):
        send(account, platform)
    platform.at = failing(*[RequestRejected("nobody can ask", 0)] * 9, point="before find")
    send(account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.error) == ("failed", "nobody can ask")
    assert reply.needs_decision
    return reply


def test_where_the_platform_cannot_be_asked_a_person_has_it_sent_again(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    reply = lost_and_unknown(account, talk, platform)
    services.retry_reply(reply.pk, "ann")
    send(account, platform)
    assert platform.texts == ["hello"], "without the decision it is never sent in doubt"
    services.retry_reply(reply.pk, "ann", send_anyway=True)
    send(account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.external_id, reply.needs_decision) == ("sent", "sent-2", False)
    assert platform.texts == ["hello", "hello"]


def test_a_decision_is_for_one_sending(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    reply = lost_and_unknown(account, talk, platform)
    services.retry_reply(reply.pk, "ann", send_anyway=True)
    platform.at = failing(PlatformUnavailable("cut again"), point="sent")
    with pytest.raises(PlatformUnavailable):
        send(account, platform)
    platform.at = failing(RequestRejected("nobody can ask", 0), point="before find")
    send(account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.needs_decision, len(platform.texts)) == ("failed", True, 2)
    services.cancel_reply(reply.pk, "ann")
    reply.refresh_from_db()
    assert (reply.needs_decision, reply.may_have_been_sent) == (False, True)


def test_nothing_is_sent_anyway_as_long_as_the_platform_can_be_asked(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    reply = services.queue_reply(talk, "hello", "ann").reply
    for _ in range(outbox.MOST_ATTEMPTS):
        platform.at = failing(PlatformUnavailable("away"))
        with pytest.raises(PlatformUnavailable):
            send(account, platform)
    with pytest.raises(Rejected, match="asked whether it has it"):
        services.retry_reply(reply.pk, "ann", send_anyway=True)
    reply.refresh_from_db()
    assert reply.state == "failed"


def test_a_definite_refusal_leaves_no_doubt(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    """Of this attempt, and of the earlier one that the platform was asked about."""
    reply = services.queue_reply(talk, "hello", "ann").reply
    platform.at = failing(PlatformUnavailable("cut"))
    with pytest.raises(PlatformUnavailable):
        send(account, platform)
    platform.at = failing(RequestRejected("too long", 400))
    send(account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.attempted_at, reply.needs_decision) == ("failed", None, False)
    services.retry_reply(reply.pk, "ann")
    platform.at = failing(RequestRejected("nobody can ask", 0), point="before find")
    send(account, platform)
    assert (states(), platform.texts) == ([("hello", "sent")], ["hello"])


def test_a_refusal_says_nothing_of_an_attempt_that_was_not_asked_for(
    account: Account, talk: Conversation, platform: OutboxPlatform, monkeypatch: Any
) -> None:
    monkeypatch.setattr(OutboxPlatform, "sends_once", True)
    reply = services.queue_reply(talk, "hello", "ann").reply
    platform.at = failing(PlatformUnavailable("cut"), point="sent")
    with pytest.raises(PlatformUnavailable):
        send(account, platform)
    platform.at = failing(RequestRejected("you are banned", 403))
    send(account, platform)
    assert services.cancel_reply(reply.pk, "ann").may_have_been_sent


def test_a_doubt_stays_one_whatever_comes_after_it(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    services.queue_reply(talk, "hello", "ann")
    for error, point in (
        (PlatformUnavailable("the answer was lost"), "sent"),
        (RateLimited("slow down", 1.0), "before find"),
    ):
        platform.at = failing(error, point=point)
        with pytest.raises(type(error)):
            send(account, platform)
    platform.at = failing()
    send(account, platform)
    assert platform.texts == ["hello"]
    assert states() == [("hello", "sent")]


def test_a_reply_says_what_it_answers(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    said = (
        message(1, "c1"),
        message(2, "c1", sender_id="@zoe"),
        message(3, "c1", direction=Direction.OUTBOUND),
        message(4, "c2"),
    )
    account.refresh_from_db()
    store.ingest(Lease(account.pk, account.epoch), account.sequence, merge(Batch("d", said)))
    services.queue_reply(talk, "hello", "ann")
    attempt = services.begin_attempt(Lease(account.pk, account.epoch), timezone.now())
    assert attempt is not None
    assert (attempt.outgoing.answers_id, attempt.outgoing.answers_sender_id) == ("m2", "@zoe")


def test_in_doubt_a_reply_says_which_ids_are_taken(account: Account) -> None:
    """Of two equal answers at one place, the lost second one is not the first."""
    now = timezone.now()
    k1, k2 = Comment.objects.order_by("external_id")
    for where, sent, text in ((k1, "x-1", "yes"), (k1, "x-0", "long ago"), (k2, "x-2", "yes")):
        one = services.queue_reply(where, text, "ann").reply
        at = now - timedelta(days=2) if text == "long ago" else now
        Reply.objects.filter(pk=one.pk).update(state="sent", external_id=sent, sent_at=at)
    services.queue_reply(k1, "yes", "ann")
    now = timezone.now()
    lease = Lease(account.pk, account.epoch)
    first = services.begin_attempt(lease, now)
    assert first is not None
    assert first.outgoing.taken_ids == frozenset(), "nothing is asked for"
    Reply.objects.filter(outbox.WAITS).update(next_attempt_at=now)
    again = services.begin_attempt(lease, now)
    assert again is not None
    assert again.outgoing.taken_ids == {"x-1", "x-2"}


def test_a_login_that_expired_is_no_reason_to_wait(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    services.queue_reply(talk, "hello", "ann")
    platform.at = failing(LoginExpired("token"))
    with pytest.raises(LoginExpired):
        perform(send_replies, account, platform)
    perform(send_replies, account, platform)
    assert states() == [("hello", "sent")]


def test_secrets_are_not_shown_in_errors(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    account.session = {"token": "hunter2-token"}
    account.save(update_fields=["session"])
    platform.at = failing(RequestRejected("token hunter2-token is not allowed to write", 403))
    services.queue_reply(talk, "hello", "ann")
    send(account, platform)
    assert "hunter2" not in Reply.objects.get().error
    assert "not allowed to write" in Reply.objects.get().error


def test_a_stale_check_begins_no_attempt_but_what_it_knows_counts(
    account: Account, talk: Conversation
) -> None:
    reply = services.queue_reply(talk, "hello", "ann").reply
    held = Lease(account.pk, account.epoch)
    attempt = outbox.begin_attempt(held, timezone.now())
    assert attempt is not None
    Account.objects.update(epoch=account.epoch + 1)
    with pytest.raises(StaleEpoch):
        outbox.begin_attempt(held, timezone.now())
    outbox.record_sent(attempt, "x-1", timezone.now())
    reply.refresh_from_db()
    assert (reply.state, reply.external_id) == ("sent", "x-1")
    outbox.record_doubt(attempt, "late", timezone.now())
    reply.refresh_from_db()
    assert (reply.state, reply.error) == ("sent", "")


def test_a_check_that_is_ended_in_mid_sending_hears_the_answer(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    """Another reply is queued while one is on its way: the newer check ends this one."""
    services.queue_reply(talk, "hello", "ann")

    async def ended(check: Any) -> None:
        task = asyncio.ensure_future(send_replies(check))
        started = asyncio.Event()

        async def at(point: str) -> None:
            if point == "before send":
                started.set()
                await asyncio.sleep(0.05)

        platform.at = at
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drive(ended, check_of(account, platform))
    assert states() == [("hello", "sent")]


# --- one message ------------------------------------------------------------------------------


def test_a_sent_reply_and_its_echo_are_one_message(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    services.queue_reply(talk, "hello", "ann")
    send(account, platform)
    assert [reply.state for reply in thread_replies(talk)] == ["sent"]
    account.refresh_from_db()
    echo = message(9, external_id="sent-1", text="hello", direction=Direction.OUTBOUND)
    store.ingest(Lease(account.pk, account.epoch), account.sequence, merge(Batch("d", (echo,))))
    assert list(thread_replies(talk)) == []
    assert Message.objects.filter(text="hello").count() == 1


# --- killed at each point ---------------------------------------------------------------------

POINTS = [
    "before begin", "begun", "before send", "sent", "before record", "recorded", "never",
]  # fmt: skip


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_it_is_sent_once(
    platform: OutboxPlatform, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL of the process that sends; then another one takes up what is left."""
    account = make_account()
    batch = Batch("c", (conversation("c1"),))
    store.ingest(Lease(account.pk, account.epoch), 0, merge(batch))
    reply = services.queue_reply(Conversation.objects.get(), "once", "ann").reply
    status = in_child(lambda: killed_sender(account, platform, point))
    assert os.WIFSIGNALED(status) == (point != "never"), status
    Account.objects.update(epoch=account.epoch + 1)  # as the next claim does
    send(account, platform)
    reply.refresh_from_db()
    assert (reply.state, reply.external_id) == ("sent", "sent-1")
    assert platform.texts == ["once"]


def killed_sender(account: Account, platform: OutboxPlatform, point: str) -> None:
    def die(here: str) -> None:
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async def at(here: str) -> None:
        die(here)

    platform.at = at
    begin, record = services.begin_attempt, services.record_sent

    def beginning(*args: Any) -> Any:
        die("before begin")
        attempt = begin(*args)
        die("begun")
        return attempt

    def recording(*args: Any) -> None:
        die("before record")
        record(*args)
        die("recorded")

    patched: Any = services
    patched.begin_attempt, patched.record_sent = beginning, recording
    perform(send_replies, account, platform)


def in_child(work: Callable[[], None]) -> int:
    """Do the work in a forked process with database connections of its own; its wait status."""
    connections.close_all()
    pooled: Any = connection
    pooled.close_pool()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


# --- by the engine ----------------------------------------------------------------------------


def test_one_check_of_the_engine_sends_reads_back_and_audits(
    account: Account, talk: Conversation, platform: OutboxPlatform
) -> None:
    """The errands in their order, and the echo that follows: one message."""
    Account.objects.update(
        session={"token": "t"},
        credentials={},
        next_due_at=timezone.now(),
        audit_due_at=timezone.now(),
        claimed_generation=1,
        epoch=account.epoch + 1,
    )
    reply = services.queue_reply(talk, "hello", "ann").reply
    echo = message(9, external_id="sent-1", text="hello", direction=Direction.OUTBOUND)
    platform.held["sent-1"] = echo
    platform.on_read = script(Batch("d", (echo,)))
    account.refresh_from_db()
    engine_check(account)
    reply.refresh_from_db()
    assert (reply.state, reply.external_id, account.last_error) == ("sent", "sent-1", "")
    assert platform.texts == ["hello"]
    assert Message.objects.get().external_id == "sent-1"
    assert list(thread_replies(talk)) == []
    audit = Audit.objects.get()
    assert (audit.outcome, audit.listed, audit.error) == ("complete", 1, "")
    assert account.complete_until == audit.until


def test_a_login_by_the_engine_leaves_a_session_and_reading_goes_on(
    account: Account, platform: OutboxPlatform
) -> None:
    Account.objects.update(
        session={}, login_state="failed", claimed_generation=1, epoch=account.epoch + 1
    )
    services.ask_login(account.pk, "ann", timezone.now())
    platform.on_read = script(Batch("d", (message(1),)))
    account.refresh_from_db()
    engine_check(account)
    assert LoginSession.objects.get().state == "success"
    assert account.login_state == "success"
    assert account.session
    assert platform.logins == 1, "no plain login beside it"
    assert Message.objects.count() == 1
