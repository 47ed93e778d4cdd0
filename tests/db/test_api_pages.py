"""Pages of lists: complete, stable and at a constant number of queries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from lifecycle.models import Rollout, RolloutStep, WorkerConfig
from sync.models import (
    Account,
    Audit,
    Comment,
    Conversation,
    Gap,
    HookDelivery,
    LoginSession,
    Message,
    PlatformServer,
    Post,
    RecordVersion,
    Reply,
)
from tests.db.api_helpers import (
    NOON,
    V1,
    errors_of,
    fill,
    make_account,
    make_conversation,
    make_message,
)

pytestmark = pytest.mark.django_db

# Token, user's other tokens, two for the rights of the user, and the list itself.
MOST_QUERIES = 5


def walk(client: APIClient, url: str | None, link: str = "next") -> list[list[Any]]:
    """The ids of every page, following the links."""
    pages = []
    while url:
        body = client.get(url).json()
        assert set(body) == {"next", "previous", "results"}
        pages.append([row.get("id", row.get("worker_id")) for row in body["results"]])
        url = body[link]
    return pages


@pytest.fixture
def conversations() -> list[int]:
    """Ids in the order of the list: ties by id, and some without any message at the end."""
    account = make_account()
    times = [NOON, NOON, NOON, NOON + timedelta(hours=1), None, None, None]
    made = [make_conversation(account, n, last_message_at=t) for n, t in enumerate(times)]
    ids = [one.pk for one in made]
    return [ids[3], ids[2], ids[1], ids[0], ids[6], ids[5], ids[4]]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
def test_pages_hold_each_row_once_forwards_and_backwards(
    api_client: APIClient, conversations: list[int], size: int
) -> None:
    first = f"{V1}/conversations?page_size={size}"
    pages = walk(api_client, first)
    assert [number for page in pages for number in page] == conversations
    assert all(len(page) == size for page in pages[:-1])

    url: str | None = first
    last = first
    while url:
        last, url = url, api_client.get(url).json()["next"]
    backwards = walk(api_client, last, "previous")
    assert backwards == pages[::-1]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_reverse_order(api_client: APIClient, conversations: list[int], size: int) -> None:
    pages = walk(api_client, f"{V1}/conversations?ordering=-latest&page_size={size}")
    found = [number for page in pages for number in page]
    assert found == conversations[3::-1] + conversations[:3:-1]


def test_rows_that_arrive_meanwhile_shift_nothing(api_client: APIClient) -> None:
    conversation = make_conversation(make_account())
    for number in range(6):
        make_message(conversation, number)
    first = api_client.get(f"{V1}/messages?page_size=3").json()
    for number in range(6, 16):
        make_message(conversation, number)
    second = api_client.get(first["next"]).json()
    seen = [row["external_id"].split("-")[1] for row in first["results"] + second["results"]]
    assert seen == ["5", "4", "3", "2", "1", "0"]
    assert second["next"] is None
    assert api_client.get(second["previous"]).json()["results"] == first["results"]


def test_links_keep_the_filters(api_client: APIClient) -> None:
    account = make_account()
    for number in range(4):
        make_conversation(account, number, unread_count=number % 2)
    pages = walk(api_client, f"{V1}/conversations?unread=true&page_size=1")
    unread = Conversation.objects.filter(unread_count=1).order_by("-pk")
    assert pages == [[one.pk] for one in unread]


def test_workers_in_pages(api_client: APIClient, make_config: Callable[..., Any]) -> None:
    for number in range(5):
        make_config(worker_id=f"w{number}")
    for ordering in ("worker_id", "state", "started_at", "-cpu_usage"):
        pages = walk(api_client, f"{V1}/workers?page_size=2&ordering={ordering}")
        assert sorted(name for page in pages for name in page) == [f"w{n}" for n in range(5)]


def test_a_cursor_of_another_ordering_is_refused(
    api_client: APIClient, conversations: list[int]
) -> None:
    link = api_client.get(f"{V1}/conversations?page_size=2").json()["next"]
    response = api_client.get(f"{link}&ordering=unread")
    assert errors_of(response, 400) == {"cursor": "invalid"}
    assert errors_of(api_client.get(link.replace("cursor=", "cursor=x")), 400)


def test_an_empty_list(api_client: APIClient) -> None:
    empty: dict[str, Any] = {"next": None, "previous": None, "results": []}
    assert api_client.get(f"{V1}/messages").json() == empty


LISTS = [
    "worker-configs",
    "workers",
    "worker-configs/w1/versions",
    "accounts",
    "conversations",
    "conversations/{conversation}/messages",
    "messages",
    "messages/{message}/versions",
    "posts",
    "comments",
    "sync-runs",
    "dead-letters",
    "login-sessions",
    "replies",
    "hook-deliveries",
    "platform-servers",
    "accounts/{account}/login-sessions",
    "accounts/{account}/gaps",
    "accounts/{account}/audits",
    "workers/rollouts",
]


@pytest.mark.parametrize("path", LISTS)
def test_query_counts(
    api: Callable[..., APIClient], viewer: Any, make_config: Callable[..., Any], path: str
) -> None:
    """As many queries for six rows as for one."""
    config = make_config(worker_id="w1")
    client = api(viewer)
    account = fill(accounts=1, each=1)
    conversation = account.conversations.get()
    message = account.conversations.get().messages.get()
    change(message)
    named = {"account": account.pk, "conversation": conversation.pk, "message": message.pk}
    url = f"{V1}/{path.format(**named)}"
    add_requests(account, conversation, config, 1)
    add_books(account, 1)
    few = _queries(client, url)
    for number in range(2, 7):
        made = make_config(worker_id=f"w{number}")
        later = make_account(100 + number, worker=made)
        talk = make_conversation(later, number)
        make_message(talk, number)
        make_message(conversation, 100 + number)
        add_requests(later, talk, made, number)
        add_books(account, number)
        change(message)
        config.save()  # another version
    assert _queries(client, url) == few
    # The parent of a nested list is one more.
    assert few <= MOST_QUERIES + path.count("/") // 2


def add_requests(
    account: Account, conversation: Conversation, config: WorkerConfig, number: int
) -> None:
    LoginSession.objects.create(account=account, expires_at=timezone.now())
    Reply.objects.create(account=account, conversation=conversation, text="yes")
    HookDelivery.objects.create(account=account, delivery_id=str(number), body=b"{}")
    PlatformServer.objects.create(platform="tiny", endpoint=f"https://{number}.example.org")
    rollout = Rollout.objects.create(actor="ann", state="done")
    RolloutStep.objects.create(rollout=rollout, config=config)


def add_books(account: Account, number: int) -> None:
    Gap.objects.create(account=account, key=str(number))
    Audit.objects.create(account=account, outcome="complete", since=NOON)
    LoginSession.objects.create(account=account, state="failed", expires_at=NOON)


def change(record: Message | Post | Comment, text: str = "before") -> None:
    RecordVersion.objects.create(
        account=record.account,
        kind=str(record._meta.model_name),
        record_id=record.pk,
        content={"text": text, "edited_at": None, "is_deleted": False},
        sequence=1,
    )


@pytest.mark.parametrize("what", [Message, Post, Comment])
def test_what_a_record_said_before(api_client: APIClient, what: type[Any]) -> None:
    fill(accounts=2, each=1)
    record, other = what.objects.order_by("pk")[:2]
    for number in range(5):
        change(record, f"text {number}")
    change(other, "elsewhere")
    path = f"{V1}/{what._meta.model_name}s/{record.pk}/versions"
    pages, url = [], f"{path}?page_size=2"
    while url:
        body = api_client.get(url).json()
        pages.append([row["content"]["text"] for row in body["results"]])
        url = body["next"]
    assert pages == [["text 4", "text 3"], ["text 2", "text 1"], ["text 0"]]
    assert set(api_client.get(path).json()["results"][0]) == {
        "id", "content", "sequence", "replaced_at",
    }  # fmt: skip
    assert api_client.post(path).status_code == 405
    assert errors_of(api_client.get(f"{V1}/{what._meta.model_name}s/999999/versions"), 404)


def test_versions_take_the_rights_of_their_record(
    api: Callable[..., APIClient], make_user: Callable[..., Any]
) -> None:
    fill(accounts=1, each=1)
    posts_only = make_user("poster")
    posts_only.user_permissions.add(Permission.objects.get(codename="view_post"))
    client = api(posts_only)
    assert client.get(f"{V1}/posts/{Post.objects.get().pk}/versions").status_code == 200
    for what in (Message, Comment):
        path = f"{V1}/{what._meta.model_name}s/{what.objects.get().pk}/versions"
        assert client.get(path).status_code == 403


def _queries(client: APIClient, url: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        response = client.get(url)
    assert response.status_code == 200
    assert response.json()["results"]
    return len(captured)


def test_the_newest_messages_of_a_conversation_come_from_the_index(
    api_client: APIClient,
) -> None:
    conversation = make_conversation(make_account())
    for number in range(20):
        make_message(conversation, number)
    path = f"{V1}/conversations/{conversation.pk}/messages?page_size=5"
    link = api_client.get(path).json()["next"]
    with CaptureQueriesContext(connection) as captured:
        api_client.get(link)
    listing = captured[-1]["sql"]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {listing}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Index Scan" in plan
    assert "sent_at <=" in plan.split("Index Cond:")[1].splitlines()[0]
