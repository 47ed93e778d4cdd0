"""Accounts and inbox in the admin: roles, secrets, services, queries."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from sync import services, store
from sync.admin.forms import field_name
from sync.models import Account, Comment, Conversation, DeadLetter, Message, Post, SyncRun
from sync.types import ConversationRecord, Direction, Lease, Merged, MessageRecord

pytestmark = pytest.mark.django_db

SECRET = "hunter2-do-not-show"
ACCOUNTS = reverse("admin:sync_account_changelist")
ADD = reverse("admin:sync_account_add")
INBOX = reverse("admin:sync_conversation_changelist")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def filled(**changed: object) -> dict[str, object]:
    """What a browser posts for a new account."""
    return {
        "platform": "matrix",
        "identifier": "@sales:example.org",
        "endpoint": "https://matrix.example.org",
        "name": "Sales",
        "interval_s": 30,
        "stalled_after_s": 300,
        "audit_interval_s": 3600,
        "enabled": "on",
        "credentials_matrix_username": "@sales:example.org",
        "credentials_matrix_password": SECRET,
        **changed,
    }


@pytest.fixture
def account(db: None) -> Account:
    return services.create_account(
        {
            "platform": "matrix",
            "identifier": "@sales:example.org",
            "endpoint": "https://matrix.example.org",
            "name": "Sales",
            "credentials": {"username": "@sales:example.org", "password": SECRET},
        }
    )


def receive(account: Account, conversations: int, messages: int) -> None:
    """Store that many conversations with that many inbound messages each, and one own one."""
    account.refresh_from_db()
    rooms = tuple(ConversationRecord(f"!{c}", f"Room {c}") for c in range(conversations))
    rows = tuple(
        MessageRecord(
            external_id=f"${c}-{m}",
            conversation_id=f"!{c}",
            sender_id="@ann",
            sender_name="Ann",
            text=f"text {c}-{m}",
            sent_at=NOON + timedelta(minutes=m),
            direction=Direction.OUTBOUND if m == messages else Direction.INBOUND,
            edited_at=NOON if m == 1 else None,
        )
        for c in range(conversations)
        for m in range(messages + 1)
    )
    merged = Merged("c", rooms, rows, read=len(rooms) + len(rows))
    store.ingest(Lease(account.pk, account.epoch), account.sequence, merged)


def test_every_role_reads_accounts_inbox_and_records(
    client: Client, viewer: User, operator: User, administrator: User, account: Account
) -> None:
    receive(account, 1, 3)
    post = Post.objects.create(
        account=account, external_id="p", author_id="a", title="A post", published_at=NOON
    )
    Comment.objects.create(
        account=account, post=post, external_id="c", author_id="a", text="Nice", published_at=NOON,
        direction="inbound",
    )  # fmt: skip
    letter = DeadLetter.objects.create(account=account, kind="message", raw={"b": 1}, error="bad")
    talk = Conversation.objects.get()
    pages = [
        ACCOUNTS,
        INBOX,
        reverse("admin:sync_account_change", args=[account.pk]),
        reverse("admin:sync_conversation_change", args=[talk.pk]),
        reverse("admin:sync_post_change", args=[post.pk]),
        reverse("admin:sync_deadletter_change", args=[letter.pk]),
        *(reverse(f"admin:sync_{m}_changelist") for m in ("post", "comment", "syncrun")),
        reverse("admin:sync_syncrun_change", args=[SyncRun.objects.get().pk]),
        reverse("admin:sync_deadletter_changelist"),
    ]
    for user in (viewer, operator, administrator):
        client.force_login(user)
        for address in pages:
            answer = client.get(address)
            assert answer.status_code == 200, address
            assert SECRET not in answer.content.decode()


def test_an_admin_connects_an_account_and_its_secret_is_never_shown_again(
    client: Client, administrator: User
) -> None:
    client.force_login(administrator)
    answer = client.post(ADD, filled(), follow=True)
    assert SECRET not in answer.content.decode()
    account = Account.objects.get()
    assert account.credentials == {"username": "@sales:example.org", "password": SECRET}
    change = reverse("admin:sync_account_change", args=[account.pk])
    assert SECRET not in client.get(change).content.decode()


def test_a_refused_form_does_not_echo_the_secret(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    text = client.post(ADD, filled(endpoint="nowhere")).content.decode()
    assert "http://" in text
    assert SECRET not in text
    assert not Account.objects.exists()


def test_empty_credentials_are_complained_about_for_a_new_account_only(
    client: Client, administrator: User, account: Account
) -> None:
    client.force_login(administrator)
    bare = {"credentials_matrix_username": "", "credentials_matrix_password": ""}
    new = client.post(ADD, filled(identifier="@b:example.org", **bare))
    assert new.status_code == 200
    assert "errorlist" in new.content.decode() or "text-red" in new.content.decode()
    change = reverse("admin:sync_account_change", args=[account.pk])
    assert client.post(change, filled(name="Renamed", **bare)).status_code == 302
    account = Account.objects.get(pk=account.pk)
    assert account.name == "Renamed"
    assert account.credentials["password"] == SECRET


def test_inputs_are_called_as_the_page_script_can_call_them() -> None:
    """unfold makes a variable of each: a hyphen would be a minus."""
    assert field_name("chat-app", "user").isidentifier()
    assert field_name("chat-app", "").isidentifier()


def test_a_second_account_of_that_name_is_refused_at_the_form(
    client: Client, administrator: User, account: Account
) -> None:
    client.force_login(administrator)
    assert client.post(ADD, filled()).status_code == 200
    assert Account.objects.count() == 1


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_only_admins_edit_accounts(
    client: Client, make_user: Callable[..., User], account: Account, role: str
) -> None:
    client.force_login(make_user("somebody", role))
    change = reverse("admin:sync_account_change", args=[account.pk])
    assert client.post(ADD, filled()).status_code == 403
    assert client.post(change, filled()).status_code == 403
    assert client.post(f"{ACCOUNTS}{account.pk}/delete/", {"post": "yes"}).status_code == 403


def test_check_now_is_for_operators(
    client: Client, viewer: User, operator: User, account: Account
) -> None:
    Account.objects.update(next_due_at=NOON + timedelta(days=9000))
    check = reverse("admin:sync_account_check", args=[account.pk])
    client.force_login(viewer)
    assert client.post(check).status_code == 403
    client.force_login(operator)
    assert client.get(check).status_code == 405
    assert client.post(check, headers={"HX-Request": "true"}).status_code == 204
    account.refresh_from_db()
    assert account.next_due_at < NOON + timedelta(days=8000)


def test_accounts_are_disabled_and_enabled_in_bulk(
    client: Client, administrator: User, account: Account
) -> None:
    client.force_login(administrator)
    for action, enabled in (("disable_selected", False), ("enable_selected", True)):
        client.post(ACCOUNTS, {"action": action, "_selected_action": [account.pk]})
        account.refresh_from_db()
        assert account.enabled is enabled


@pytest.mark.parametrize(("action", "enabled"), [("disable_selected", 0), ("enable_selected", 1)])
def test_one_that_cant_be_changed_stops_no_other(
    client: Client, administrator: User, account: Account, action: str, enabled: int
) -> None:
    gone = Account.objects.create(platform="gone", identifier="x", name="Gone", credentials={})
    Account.objects.update(enabled=not enabled)
    client.force_login(administrator)
    chosen = {"action": action, "_selected_action": [gone.pk, account.pk]}
    text = client.post(ACCOUNTS, chosen, follow=True).content.decode()
    assert Account.objects.get(pk=account.pk).enabled == bool(enabled)
    assert not Account.objects.get(pk=gone.pk).enabled
    assert ("There is no such platform" in text) == bool(enabled)
    assert ("1 account changed" if enabled else "2 accounts changed") in text


def test_an_account_is_deleted_with_what_it_holds(
    client: Client, administrator: User, account: Account
) -> None:
    receive(account, 2, 2)
    client.force_login(administrator)
    delete = reverse("admin:sync_account_delete", args=[account.pk])
    assert client.get(delete).status_code == 200
    assert client.post(delete, {"post": "yes"}).status_code == 302
    assert not Message.objects.exists()


def test_the_conversation_page_shows_the_latest_and_fetches_older_ones(
    client: Client, viewer: User, account: Account
) -> None:
    receive(account, 1, 69)
    talk = Conversation.objects.get()
    client.force_login(viewer)
    address = reverse("admin:sync_conversation_change", args=[talk.pk])
    text = client.get(address).content.decode()
    said = re.findall(r"text 0-(\d+)", text)
    assert [int(n) for n in said] == list(range(20, 70))
    more = re.search(r'hx-get="([^"]+/older/\?before=\d+)"', text)
    assert more
    older = client.get(more[1]).content.decode()
    assert [int(n) for n in re.findall(r"text 0-(\d+)", older)] == list(range(20))
    assert "edited" in older


def test_a_poll_shows_what_came_since_and_drops_nothing(
    client: Client, viewer: User, account: Account
) -> None:
    receive(account, 1, 3)
    talk = Conversation.objects.get()
    first = talk.messages.earliest("sent_at")
    for number in range(60):
        Message.objects.create(
            account=account, conversation=talk, external_id=f"late-{number}", sender_id="@b",
            text=f"late {number}", sent_at=NOON + timedelta(hours=1, minutes=number),
            direction="inbound",
        )  # fmt: skip
    client.force_login(viewer)
    address = reverse("admin:sync_conversation_change", args=[talk.pk])
    poll = client.get(address, {"since": first.pk}, headers={"HX-Target": "live-chat"})
    text = poll.content.decode()
    assert "<html" not in text
    assert "text 0-0" in text
    assert "late 59" in text


def test_mark_read_goes_up_to_what_the_person_saw(
    client: Client, viewer: User, operator: User, account: Account
) -> None:
    receive(account, 1, 4)
    talk = Conversation.objects.get()
    second = talk.messages.order_by("sent_at")[1]
    read = reverse("admin:sync_conversation_read", args=[talk.pk])
    client.force_login(viewer)
    assert client.post(read).status_code == 403
    client.force_login(operator)
    assert client.post(read, {"up_to": second.pk}, headers={"HX-Request": "1"}).status_code == 204
    talk.refresh_from_db()
    assert talk.unread_count == 2
    assert client.post(read).status_code == 302
    talk.refresh_from_db()
    assert talk.unread_count == 0


def test_conversations_are_marked_read_in_bulk_and_all_at_once(
    client: Client, operator: User, account: Account
) -> None:
    receive(account, 3, 2)
    client.force_login(operator)
    one = Conversation.objects.first()
    assert one
    client.post(INBOX, {"action": "mark_read", "_selected_action": [one.pk]})
    account.refresh_from_db()
    assert account.unread_total == 4
    everything = reverse("admin:sync_conversation_mark_all")
    assert client.get(everything).status_code == 200  # asks first
    account.refresh_from_db()
    assert account.unread_total == 4
    answer = client.post(everything, {"_form_submitted": "True"})
    account.refresh_from_db()
    assert account.unread_total == 0
    assert answer["HX-Redirect"] == INBOX


def test_a_viewer_does_not_mark_all_read(client: Client, viewer: User, account: Account) -> None:
    client.force_login(viewer)
    assert (
        client.post(
            reverse("admin:sync_conversation_mark_all"), {"_form_submitted": "True"}
        ).status_code
        == 403
    )


def test_the_unread_filter(client: Client, viewer: User, account: Account) -> None:
    receive(account, 2, 1)
    talk = Conversation.objects.get(external_id="!0")
    store.mark_read(talk.pk)
    client.force_login(viewer)
    text = client.get(INBOX, {"unread": "yes"}, headers={"HX-Target": "live-rows"}).content.decode()
    assert "Room 1" in text
    assert "Room 0" not in text


@pytest.mark.parametrize(
    "model", ["account", "conversation", "syncrun", "post", "comment", "deadletter"]
)
def test_lists_take_the_same_queries_for_one_row_as_for_many(
    client: Client, operator: User, model: str, django_assert_max_num_queries: Any
) -> None:
    client.force_login(operator)
    address = reverse(f"admin:sync_{model}_changelist")
    made = 0

    def more(n: int) -> None:
        nonlocal made
        for _ in range(n):
            made += 1
            account = services.create_account(
                {
                    "platform": "matrix",
                    "identifier": f"@{made}:example.org",
                    "endpoint": "https://matrix.example.org",
                    "credentials": {"username": "a", "password": SECRET},
                }
            )
            receive(account, 1, 1)
            post = Post.objects.create(
                account=account, external_id="p", author_id="a", published_at=NOON
            )
            Comment.objects.create(
                account=account, post=post, external_id="c", author_id="a", published_at=NOON,
                direction="inbound",
            )  # fmt: skip
            DeadLetter.objects.create(account=account, kind="message", raw={}, error="bad")

    more(1)
    with django_assert_max_num_queries(12) as few:
        client.get(address, headers={"HX-Target": "live-rows"})
    more(5)
    with django_assert_max_num_queries(len(few.captured_queries)):
        client.get(address, headers={"HX-Target": "live-rows"})


def test_records_are_neither_added_nor_deleted(client: Client, admin_user: User) -> None:
    client.force_login(admin_user)
    for model in ("conversation", "post", "comment", "syncrun", "deadletter"):
        assert client.get(reverse(f"admin:sync_{model}_add")).status_code == 403
