"""Replies, posts, logins and proofs in the admin: who may do what, and what is shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sync import platforms, reading_on, services
from sync.admin.posts import tree
from sync.models import (
    Account,
    Audit,
    Comment,
    Conversation,
    Gap,
    LoginSession,
    Post,
    RecordVersion,
    Reply,
)
from sync.types import Lease, LoginSessionState, LoginStep
from tests.db.api_helpers import make_account, make_conversation, make_message
from tests.db.errand_stage import OutboxPlatform
from tests.db.sync_stage import NOON

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OutboxPlatform:
    made = OutboxPlatform(tmp_path / "sent.jsonl")
    monkeypatch.setattr(platforms, "registry", lambda: {"matrix": made})
    return made


@pytest.fixture
def talk(db: None) -> Conversation:
    conversation = make_conversation(make_account())
    make_message(conversation)
    return conversation


@pytest.fixture
def post(talk: Conversation) -> Post:
    made = Post.objects.create(
        account=talk.account, external_id="p", author_id="us", title="A work",
        url="javascript:alert(1)", published_at=NOON,
    )  # fmt: skip
    for number, parent in (
        (1, ""),
        (2, "k1"),
        (3, "k2"),
        (4, "gone"),
        (5, "k5"),
        (6, "k7"),
        (7, "k6"),
    ):
        Comment.objects.create(
            account=talk.account, post=made, external_id=f"k{number}", parent_external_id=parent,
            author_id=f"reader-{number}", text=f"<b>comment {number}</b>", direction="inbound",
            published_at=NOON + timedelta(minutes=number),
        )  # fmt: skip
    return made


def write(client: Client, kind: str, pk: int, text: str, **more: Any) -> Any:
    address = reverse("admin:sync_reply_write", args=[kind, pk])
    return client.post(address, {"text": text}, **more)


def thread(client: Client, kind: str, pk: int) -> str:
    answer = client.get(reverse("admin:sync_reply_thread", args=[kind, pk]))
    assert answer.status_code == 200
    return answer.content.decode()


HTMX = {"HTTP_HX_REQUEST": "true"}


def test_two_operators_see_each_others_replies_and_are_told(
    client: Client, operator: User, administrator: User, talk: Conversation
) -> None:
    client.force_login(operator)
    page = client.get(reverse("admin:sync_conversation_change", args=[talk.pk])).content.decode()
    assert 'id="reply-box"' in page
    done = write(client, "conversation", talk.pk, "I do it", **HTMX)
    assert "replies" in done["HX-Trigger"]
    client.force_login(administrator)
    assert "operator wrote here" in thread(client, "conversation", talk.pk)
    write(client, "conversation", talk.pk, "No, I", **HTMX)
    client.force_login(operator)
    shown = thread(client, "conversation", talk.pk)
    assert "I do it" in shown
    assert "No, I" in shown
    assert "administrator wrote here" in shown
    assert "operator wrote here" not in shown
    assert "no worker" in shown, "why they wait"


def test_a_refused_text_is_not_lost(client: Client, operator: User, talk: Conversation) -> None:
    client.force_login(operator)
    answer = write(client, "conversation", talk.pk, "x" * 1001, **HTMX).content.decode()
    assert "At most 1000" in answer
    assert "x" * 1001 in answer
    assert write(client, "conversation", talk.pk, "hello").status_code == 302, "without scripts"
    assert Reply.objects.count() == 1


def test_a_form_that_is_sent_twice_queues_once(
    client: Client, operator: User, talk: Conversation
) -> None:
    client.force_login(operator)
    address = reverse("admin:sync_reply_write", args=["conversation", talk.pk])
    key = "1f0e0a60-8a56-4b5e-9a9c-0c1f6a1c2b3d"
    for _ in range(2):
        client.post(address, {"text": "hello", "key": key}, **HTMX)  # type: ignore[arg-type]
    client.post(address, {"text": "hello", "key": "odd"}, **HTMX)  # type: ignore[arg-type]
    assert Reply.objects.count() == 2


def test_undo_and_try_again(client: Client, operator: User, talk: Conversation) -> None:
    client.force_login(operator)
    write(client, "conversation", talk.pk, "oops")
    reply = Reply.objects.get()
    assert client.post(reverse("admin:sync_reply_cancel", args=[reply.pk])).status_code == 302
    assert "oops" not in thread(client, "conversation", talk.pk)
    Reply.objects.update(state="failed", error="M_FORBIDDEN: not in this room")
    assert "M_FORBIDDEN" in thread(client, "conversation", talk.pk)
    client.post(reverse("admin:sync_reply_retry", args=[reply.pk]), **HTMX)  # type: ignore[arg-type]
    reply.refresh_from_db()
    assert reply.state == "pending"
    shown = client.get(reverse("admin:sync_reply_changelist")).content.decode()
    assert "oops" in shown


def test_send_again_anyway_is_asked_back(
    client: Client, operator: User, talk: Conversation
) -> None:
    client.force_login(operator)
    write(client, "conversation", talk.pk, "oops")
    address = reverse("admin:sync_reply_anyway", args=[Reply.objects.get().pk])
    Reply.objects.update(state="failed", attempted_at=timezone.now(), error="no way to ask")
    assert address not in thread(client, "conversation", talk.pk), "the platform can be asked"
    Reply.objects.update(needs_decision=True)
    assert address in thread(client, "conversation", talk.pk)
    outbox = client.get(reverse("admin:sync_reply_changelist")).content.decode()
    assert address in outbox
    assert "failed, may have been sent" in outbox
    assert "arrives twice" in client.get(address).content.decode()
    assert Reply.objects.get().state == "failed", "asking does nothing yet"
    assert "It is sent again." in client.post(address, follow=True).content.decode()
    reply = Reply.objects.get()
    assert (reply.state, reply.attempted_at) == ("pending", None)


def test_who_had_it_sent_again_anyway_is_in_the_history_of_the_reply(
    client: Client, operator: User, make_user: Callable[..., User], talk: Conversation
) -> None:
    client.force_login(operator)
    write(client, "conversation", talk.pk, "oops")
    reply = Reply.objects.get()
    doubt = {"state": "failed", "attempted_at": timezone.now(), "needs_decision": True}
    Reply.objects.update(**doubt)
    anyway = reverse("admin:sync_reply_anyway", args=[reply.pk])
    history = reverse("admin:sync_reply_history", args=[reply.pk])
    client.force_login(make_user("bob", "operator"))
    client.post(anyway)
    client.force_login(operator)
    client.post(anyway)  # too late: bob has done it
    page = client.get(reverse("admin:sync_reply_change", args=[reply.pk]))
    assert history in page.content.decode()
    assert trail(reply) == [("bob", "Sent again anyway.")]
    assert "bob" in client.get(history).content.decode()
    client.cookies["django_language"] = "zh-hans"
    assert "仍然再次发送。" in client.get(history).content.decode()
    Reply.objects.update(**doubt)
    client.post(reverse("admin:sync_reply_retry", args=[reply.pk]))
    Reply.objects.update(attempted_at=None)
    client.post(reverse("admin:sync_reply_cancel", args=[reply.pk]))
    assert trail(reply)[1:] == [("operator", "Tried again."), ("operator", "Taken back.")]


def trail(reply: Reply) -> list[tuple[str, str]]:
    """Who did what, the first first."""
    rows = LogEntry.objects.filter(object_id=str(reply.pk), content_type__model="reply")
    return list(rows.order_by("pk").values_list("user__username", "change_message"))


def test_what_may_have_been_sent_before_it_was_taken_back_says_so(
    client: Client, operator: User, talk: Conversation
) -> None:
    client.force_login(operator)
    write(client, "conversation", talk.pk, "oops")
    Reply.objects.update(attempts=1, attempted_at=timezone.now(), error="the answer was lost")
    cancel = reverse("admin:sync_reply_cancel", args=[Reply.objects.get().pk])
    said = client.post(cancel, follow=True).content.decode()
    assert "it may have been sent before" in said
    beside = thread(client, "conversation", talk.pk)
    assert "cancelled, may have been sent" in beside
    assert "Undo" not in beside
    outbox = reverse("admin:sync_reply_changelist")
    assert "The platform is asked." in client.get(outbox).content.decode()


def test_viewers_read_and_write_nothing(client: Client, viewer: User, talk: Conversation) -> None:
    client.force_login(viewer)
    reply = Reply.objects.create(account=talk.account, conversation=talk, text="hello")
    session = services.ask_login(talk.account_id, "ann", timezone.now())
    step = LoginStep(LoginSessionState.PENDING, qr_text="secret", url="https://example.org/secret")
    lease = Lease(talk.account_id, Account.objects.get().epoch)
    services.tell_login(lease, session.pk, step, timezone.now())
    page = client.get(reverse("admin:sync_conversation_change", args=[talk.pk])).content.decode()
    assert 'id="reply-box"' not in page
    assert "hello" in thread(client, "conversation", talk.pk)
    login = client.get(reverse("admin:sync_loginsession_change", args=[session.pk]))
    assert "secret" not in login.content.decode()
    assert "data:image" not in login.content.decode()
    for name, args in (
        ("reply_write", ["conversation", talk.pk]),
        ("reply_cancel", [reply.pk]),
        ("reply_retry", [reply.pk]),
        ("loginsession_cancel", [session.pk]),
        ("loginsession_answer", [session.pk]),
        ("account_login", [talk.account_id]),
        ("account_audit", [talk.account_id]),
    ):
        assert client.post(reverse(f"admin:sync_{name}", args=args)).status_code == 403, name


@pytest.mark.parametrize("odd", ["²", "99999999999999999999999999", "0"])
def test_odd_addresses_are_not_found(client: Client, operator: User, odd: str) -> None:
    client.force_login(operator)
    numbered = [
        f"/admin/sync/reply/conversation/{odd}/thread/",
        f"/admin/sync/reply/post/{odd}/write/",
        f"/admin/sync/account/{odd}/proof/",
    ]
    for address in (
        *(one for one in numbered if one.isascii()),
        "/admin/sync/reply/pigeon/1/thread/",
        f"/admin/sync/post/{odd}/change/",
        f"/admin/sync/loginsession/{odd}/change/",
        f"/admin/sync/deadletter/{odd}/change/",
    ):
        assert client.get(address).status_code == 404, address


# --- posts ------------------------------------------------------------------------------------


def test_comments_stand_below_what_they_answer(post: Post) -> None:
    shown = [(one.external_id, depth) for one, depth in tree(list(post.comments.order_by("pk")))]
    assert shown[:5] == [("k1", 0), ("k2", 1), ("k3", 2), ("k4", 0), ("k5", 0)]
    assert sorted(shown[5:]) == [("k6", 0), ("k7", 1)], "a circle is shown, once"


def test_a_post_and_its_comments_show_what_they_said_before(
    client: Client, operator: User, post: Post
) -> None:
    comments = list(post.comments.order_by("pk"))
    RecordVersion.objects.bulk_create(
        RecordVersion(account=post.account, kind=kind, record_id=pk, content=said, sequence=1)
        for kind, pk, said in (
            ("post", post.pk, {"title": "the first title", "text": "the first <text>"}),
            ("comment", comments[0].pk, {"text": "one thing"}),
            ("comment", comments[0].pk, {"text": "another thing"}),
        )
    )
    client.force_login(operator)
    text = client.get(reverse("admin:sync_post_change", args=[post.pk])).content.decode()
    assert "the first title\nthe first &lt;text&gt;" in text
    assert text.index("2 former versions") < text.index("another thing") < text.index("one thing")


def test_a_post_with_its_comments_costs_the_same_whatever_their_number(
    client: Client, operator: User, post: Post, django_assert_max_num_queries: Any
) -> None:
    client.force_login(operator)
    address = reverse("admin:sync_post_change", args=[post.pk])
    with django_assert_max_num_queries(20) as few:
        text = client.get(address).content.decode()
    assert "&lt;b&gt;comment 3&lt;/b&gt;" in text
    assert "javascript:alert" not in text
    row = Comment.objects.all()[0]
    Comment.objects.bulk_create(
        Comment(
            account=row.account, post=post, external_id=f"x{n}", author_id="a",
            direction="inbound", published_at=NOON,
        )
        for n in range(50)
    )  # fmt: skip
    with django_assert_max_num_queries(len(few.captured_queries)):
        client.get(address)


def test_a_comment_is_answered_from_its_button(client: Client, operator: User, post: Post) -> None:
    client.force_login(operator)
    comment = Comment.objects.get(external_id="k3")
    box = client.get(reverse("admin:sync_reply_write", args=["comment", comment.pk]))
    assert "reader-3" in box.content.decode()
    write(client, "comment", comment.pk, "thanks", **HTMX)
    assert Reply.objects.get().comment == comment
    assert "thanks" in thread(client, "post", post.pk)


# --- logins and proofs ------------------------------------------------------------------------


def test_a_login_is_asked_for_shown_and_cancelled(
    client: Client, operator: User, talk: Conversation
) -> None:
    client.force_login(operator)
    ask = reverse("admin:sync_account_login", args=[talk.account_id])
    first = client.post(ask)
    session = LoginSession.objects.get()
    page = reverse("admin:sync_loginsession_change", args=[session.pk])
    assert first["Location"] == page
    assert client.post(ask)["Location"] == page, "the one under way is shown"
    assert "no worker" in client.get(page).content.decode()
    step = LoginStep(LoginSessionState.PENDING, "Scan it", qr_text="x", url="https://x.org/go")
    lease = Lease(talk.account_id, Account.objects.get().epoch)
    services.tell_login(lease, session.pk, step, timezone.now())
    live = client.get(page, headers={"HX-Target": "live-login"}).content.decode()
    assert "<html" not in live
    assert "data:image/svg+xml" in live
    assert 'href="https://x.org/go"' in live
    answer = reverse("admin:sync_loginsession_answer", args=[session.pk])
    said = client.post(answer, {"answer": ""}, follow=True).content.decode()
    assert said.count("Give the code") == 1, "the layout shows it, once"
    client.post(answer, {"answer": "https://x.org/back?code=c1&state=s"})
    session.refresh_from_db()
    assert session.answer == {"code": "c1", "state": "s"}
    client.post(reverse("admin:sync_loginsession_cancel", args=[session.pk]))
    session.refresh_from_db()
    assert session.state == "cancelled"
    ended = client.get(page, headers={"HX-Target": "live-login"})
    assert (ended.status_code, "m-ended" in ended.content.decode()) == (286, True), "polls no more"


def test_a_notice_stands_on_the_page_with_its_time_and_is_no_error(
    client: Client, operator: User, talk: Conversation
) -> None:
    client.force_login(operator)
    address = reverse("admin:sync_account_proof", args=[talk.account_id])
    assert "<dt>notice" not in client.get(address).content.decode()
    said = f"{reading_on.FROM_KNOWN} (unknown token)"
    Account.objects.update(notice=said, notice_at=timezone.now())
    shown = client.get(address).content.decode()
    assert re.search(rf"notice</dt><dd>{re.escape(said)} <small>.*<time", shown)
    assert "still there" not in shown
    Account.objects.update(enabled=False)  # else the list says first that no worker runs
    accounts = reverse("admin:sync_account_changelist")
    assert said in client.get(accounts).content.decode()
    for page in (address, accounts):
        chinese = client.get(page, headers={"Accept-Language": "zh-hans"}).content.decode()
        assert reading_on.FROM_KNOWN not in chinese
        assert "(unknown token)" in chinese


def test_the_proof_of_an_account(
    client: Client, operator: User, talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(operator)
    page = reverse("admin:sync_account_proof", args=[talk.account_id])
    assert "not proven yet" in client.get(page).content.decode()
    Account.objects.update(complete_until=NOON, backlog=830)
    Gap.objects.create(account=talk.account, key="g", newer_end="t9", older_end="t1", reason="cut")
    client.post(reverse("admin:sync_account_audit", args=[talk.account_id]))
    shown = client.get(page).content.decode()
    for word in (NOON.isoformat(), "830", "t9", "t1", "cut", "running"):
        assert word in shown, word
    again = client.post(reverse("admin:sync_account_audit", args=[talk.account_id]), follow=True)
    assert "under way" in again.content.decode()
    assert Audit.objects.count() == 1
    monkeypatch.setattr(OutboxPlatform, "lists_ids", False)
    Audit.objects.all().delete()
    Account.objects.update(complete_until=None)
    assert "this can't be proven" in client.get(page).content.decode()
