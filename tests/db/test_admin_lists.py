"""What lists of the admin cost, and what they do without [S7, C4]."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from lifecycle.console.live import LIVE_ROWS, LiveList
from lifecycle.console.paging import BoundedPaginator
from lifecycle.models import WorkerConfig, WorkerLog
from sync.admin.inbox import ConversationAdmin
from sync.models import (
    Account,
    Audit,
    Comment,
    Conversation,
    DeadLetter,
    Gap,
    HookDelivery,
    LoginSession,
    Post,
    Reply,
    SyncRun,
)
from tests.db.api_helpers import V1, fill, make_account, make_conversation

pytestmark = pytest.mark.django_db

INBOX = reverse("admin:sync_conversation_changelist")


def has_account(model: type[Model]) -> bool:
    try:
        model._meta.get_field("account")
    except FieldDoesNotExist:
        return False
    return True


OF_ACCOUNTS = [model for model, page in admin.site._registry.items() if has_account(model)]


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")


def poll(client: Client, address: str, query: dict[str, Any] | None = None) -> Any:
    return client.get(address, query, headers={"HX-Target": LIVE_ROWS})


@pytest.fixture
def locked(client: Client, admin_user: User) -> Account:
    """An account with a row of each kind, that was encrypted with a key that is no longer there."""
    client.force_login(admin_user)
    account = fill(accounts=1, each=1)
    talk, post = Conversation.objects.get(), Post.objects.get()
    now = timezone.now()
    Reply.objects.create(account=account, conversation=talk, text="Hello")
    Reply.objects.create(account=account, post=post, comment=Comment.objects.get(), text="Thanks")
    LoginSession.objects.create(account=account, expires_at=now)
    Audit.objects.create(account=account, outcome="running", since=now, until=now, started_at=now)
    Gap.objects.create(account=account, key="!r", scope="room", reason="too far")
    HookDelivery.objects.create(account=account, delivery_id="d", body=b"{}", received_at=now)
    token = Fernet(Fernet.generate_key()).encrypt(json.dumps({}).encode()).decode()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE sync_account SET credentials = %s, session = %s", [token, token])
    with pytest.raises(ImproperlyConfigured):
        Account.objects.get(pk=account.pk)
    return account


@pytest.mark.parametrize("model", OF_ACCOUNTS, ids=lambda model: model.__name__)
def test_a_list_reads_no_secret_of_any_account(
    client: Client, locked: Account, model: type[Model]
) -> None:
    chosen = {"account__id__exact": locked.pk}
    for answer in (
        client.get(list_of(model), {"_facets": "True"}),
        client.get(list_of(model)),
        client.get(list_of(model), chosen),
        poll(client, list_of(model), chosen),
    ):
        assert answer.status_code == 200
        assert len(answer.context["cl"].result_list) == model._default_manager.count() > 0


def test_pages_of_rows_read_no_secret_of_their_account(client: Client, locked: Account) -> None:
    rows: tuple[Model, ...] = tuple(
        model._default_manager.get() for model in (SyncRun, Gap, HookDelivery, DeadLetter, Post)
    )
    pages = [reverse(f"admin:sync_{row._meta.model_name}_change", args=[row.pk]) for row in rows]
    talk, post, comment = Conversation.objects.get(), Post.objects.get(), Comment.objects.get()
    for kind, target in (("conversation", talk), ("post", post), ("comment", comment)):
        pages.append(reverse("admin:sync_reply_thread", args=[kind, target.pk]))
        pages.append(reverse("admin:sync_reply_write", args=[kind, target.pk]))
    pages.append(f"{V1}/hook-deliveries/{HookDelivery.objects.get().pk}")
    for page in pages:
        assert client.get(page).status_code == 200, page


def test_an_account_is_chosen_by_typing_and_other_filters_stay(
    client: Client, viewer: User
) -> None:
    shop, other = make_account(1, name="Shop"), make_account(2, name="Elsewhere")
    make_conversation(shop, 1, unread_count=1)
    make_conversation(other, 2, unread_count=1)
    client.force_login(viewer)
    page = client.get(INBOX, {"unread": "yes", "q": "room"}).content.decode()
    form = page[page.index('class="m-by-typing"') :].split("</form>")[0]
    assert "Elsewhere" not in form
    assert '<input type="hidden" name="unread" value="yes">' in form
    assert '<input type="hidden" name="q" value="room">' in form

    asked = {"app_label": "sync", "model_name": "conversation", "field_name": "account"}
    found = client.get(reverse("admin:autocomplete"), {**asked, "term": "sho"}).json()
    assert found["results"] == [{"id": str(shop.pk), "text": "Shop"}]

    rows = client.get(INBOX, {"unread": "yes", "account__id__exact": str(shop.pk)})
    assert [str(talk) for talk in rows.context["cl"].result_list] == ["Room 1"]
    assert f'<option value="{shop.pk}" selected>Shop</option>' in rows.content.decode()


def of_worker(model: type[Model], pk: int) -> dict[str, int]:
    return {"config__id__exact" if model is WorkerLog else "worker__id__exact": pk}


@pytest.mark.parametrize("model", [WorkerLog, Account])
def test_a_worker_is_chosen_by_typing(
    client: Client, viewer: User, make_config: Callable[..., WorkerConfig], model: type[Model]
) -> None:
    here, other = make_config(worker_id="here"), make_config(worker_id="elsewhere")
    make_account(1, name="Shop", worker=here)
    make_account(2, name="Bakery", worker=other)
    client.force_login(viewer)
    page = client.get(list_of(model)).content.decode()
    form = page[page.index('class="m-by-typing"') :].split("</form>")[0]
    assert "here" not in form

    name = "config" if model is WorkerLog else "worker"
    label, named = model._meta.label_lower.split(".")
    asked = {"app_label": label, "model_name": named, "field_name": name, "term": "elsew"}
    found = client.get(reverse("admin:autocomplete"), asked).json()
    assert found["results"] == [{"id": str(other.pk), "text": "elsewhere"}]

    rows = client.get(list_of(model), of_worker(model, here.pk))
    assert {getattr(row, name) for row in rows.context["cl"].result_list} == {here}
    assert f'<option value="{here.pk}" selected>here</option>' in rows.content.decode()


@pytest.mark.parametrize("model", [WorkerLog, Account])
def test_a_poll_reads_no_worker_for_its_filters(
    client: Client, viewer: User, make_config: Callable[..., WorkerConfig], model: type[Model]
) -> None:
    """Each list is asked for every two seconds by each open page."""
    one = make_config()
    make_account(1, worker=one)
    client.force_login(viewer)

    def asked(query: dict[str, Any]) -> list[str]:
        with CaptureQueriesContext(connection) as seen:
            assert poll(client, list_of(model), query).status_code == 200
        return [query["sql"] for query in seen]

    alone = asked(of_worker(model, one.pk))
    for _ in range(20):
        make_config()
    for query, most in (({}, 0), (of_worker(model, one.pk), 1)):
        found = asked(query)
        assert len(found) <= len(alone)
        of_configs = [sql for sql in found if 'FROM "lifecycle_workerconfig" ORDER' in sql]
        chosen = [sql for sql in found if 'FROM "lifecycle_workerconfig" WHERE' in sql]
        assert of_configs == []
        assert len(chosen) <= most
        assert not any("env_variables" in sql for sql in chosen)
        assert not any("DISTINCT" in sql for sql in found)


def test_accounts_without_a_worker_are_found(
    client: Client, viewer: User, make_config: Callable[..., WorkerConfig]
) -> None:
    make_account(1, name="Shop", worker=make_config())
    make_account(2, name="Bakery")
    client.force_login(viewer)
    for homeless, names in (("yes", ["Bakery"]), ("no", ["Shop"])):
        rows = client.get(list_of(Account), {"homeless": homeless}).context["cl"].result_list
        assert [str(row) for row in rows] == names


def test_no_account_chosen_is_the_plain_inbox(client: Client, viewer: User) -> None:
    client.force_login(viewer)
    assert client.get(INBOX, {"account__id__exact": ""}).context["is_plain"]
    assert not client.get(INBOX, {"account__id__exact": "7"}).context["is_plain"]


LIVE = [model for model, page in admin.site._registry.items() if isinstance(page, LiveList)]


@pytest.mark.parametrize("model", LIVE, ids=lambda model: model.__name__)
def test_a_list_counts_no_whole_table(client: Client, admin_user: User, model: type[Model]) -> None:
    client.force_login(admin_user)
    with CaptureQueriesContext(connection) as seen:
        assert poll(client, list_of(model)).status_code == 200
    counts = [one["sql"] for one in seen if re.match(r"SELECT COUNT\(\*\)", one["sql"])]
    assert len(counts) == 1
    assert f"LIMIT {BoundedPaginator.MOST + 1})" in counts[0]


def test_a_list_says_that_it_goes_on_behind_what_was_counted(
    client: Client, viewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedPaginator, "MOST", 3)
    monkeypatch.setattr(ConversationAdmin, "list_per_page", 2)
    account = make_account()
    for number in range(5):
        at = timezone.now() + timedelta(minutes=number)
        make_conversation(account, number, unread_count=number // 3, last_message_at=at)
    client.force_login(viewer)

    def rows(**query: Any) -> tuple[list[str], bool]:
        page = client.get(INBOX, query)
        says_more = "and more: filter or search for them" in page.content.decode()
        assert says_more is ("m-cut" in page.content.decode())
        found = page.context["cl"]
        assert (found.full_result_count is None) is bool(query.keys() - {"p"})  # "… of all"
        return [str(talk) for talk in found.result_list], says_more

    assert rows() == (["Room 4", "Room 3"], True)
    assert rows(p=2) == (["Room 2"], True)
    assert client.get(INBOX, {"p": 3}).status_code == 302
    assert rows(unread="yes") == (["Room 4", "Room 3"], False)
    assert rows(q="Room 0") == (["Room 0"], False)
