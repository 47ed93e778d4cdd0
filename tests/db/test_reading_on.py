"""`sync.reading_on`: what is known of an account whose cursor is lost."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from sync import reading_on, store
from sync.models import Account, Gap
from sync.types import Batch, CommentRecord, KnownPost, MessageRecord, PostRecord
from tests.db.sync_stage import NOON, comment, lease, make_account, message, post

pytestmark = pytest.mark.django_db

Record = MessageRecord | PostRecord | CommentRecord


@pytest.fixture
def account(db: None) -> Account:
    return make_account()


def stored(account: Account, *records: Record) -> None:
    account.refresh_from_db()
    store.ingest_batch(lease(account), account.sequence, Batch("somewhere", records))


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_conversations_by_their_last_message(account: Account) -> None:
    assert reading_on.last_known(account.pk) is None, "nothing was read yet"
    stored(account, message(1, "a"), message(7, "a"), message(3, "b"))
    stored(make_account(), message(9, "a"))
    known = reading_on.last_known(account.pk)
    assert known
    assert (known.conversations, known.posts) == ({"a": at(7), "b": at(3)}, {})
    assert (known.message_at, known.comment_at, known.post_at) == (at(7), None, None)


def test_posts_with_what_is_below_them(account: Account) -> None:
    edited = post(2, edited_at=at(50))
    below = [comment(1, post_id="p1", published_at=at(8)), comment(2, post_id="p1")]
    gone = comment(3, post_id="p1", published_at=at(9), is_deleted=True)
    stored(account, post(1), edited, *below, gone)
    known = reading_on.last_known(account.pk)
    assert known
    assert known.posts == {"p1": KnownPost(NOON, at(9), 2), "p2": KnownPost(at(50), None, 0)}
    assert (known.message_at, known.comment_at, known.post_at) == (None, at(9), at(50))


def test_no_clock_is_ahead_of_the_last_reading(account: Account) -> None:
    """A platform's, or a writer's: what came until then would be taken for known."""
    ahead = timezone.now() + timedelta(days=400)
    stored(
        account,
        message(1, sent_at=ahead),
        post(1, published_at=ahead),
        comment(1, post_id="p1", published_at=ahead),
    )
    read_at = Account.objects.get(pk=account.pk).last_sync_at
    known = reading_on.last_known(account.pk)
    assert known
    assert known.message_at == known.comment_at == known.post_at == read_at


def test_with_gaps_below_them_the_last_ones_say_nothing(account: Account) -> None:
    stored(account, message(1))
    for key, says_something in (("hooks:1-2", True), ("room:1", False)):
        Gap.objects.create(account=account, key=key)
        assert bool(reading_on.last_known(account.pk)) == says_something, key
    Gap.objects.update(closed_at=timezone.now())
    assert reading_on.last_known(account.pk)
