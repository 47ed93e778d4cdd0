"""The feed, as it is kept and as plain JSON [S10]."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from sync import feed, services, store, tasks
from sync.api.events import NewsSerializer, as_json
from sync.errors import FeedPruned
from sync.live.expanding import MOST_CONVERSATIONS, expand
from sync.models import Account, FeedEntry
from sync.types import Batch
from tests.db.api_helpers import V1, errors_of
from tests.db.sync_stage import lease, make_account, message

pytestmark = pytest.mark.django_db

FEED = f"{V1}/feed"


def commit() -> None:
    """Give the positions that a commit would give."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


def tell(*numbers: int) -> int:
    """Entries, each as of a commit of its own; the feed's head."""
    for number in numbers:
        feed.append(7, {"reply": {"new": [number]}})
        commit()
    return feed.head()


def ids(entries: list[Any]) -> list[int]:
    return [entry["changes"]["reply"]["new"][0] for entry in entries]


# --- over HTTP ------------------------------------------------------------------------------


def test_one_begins_at_the_present_and_goes_on(api_client: APIClient) -> None:
    tell(1)
    begin = api_client.get(FEED).json()
    assert begin == {"entries": [], "position": feed.head(), "more": False}
    tell(2, 3, 4)
    first = api_client.get(FEED, {"since": begin["position"], "limit": 2}).json()
    assert (ids(first["entries"]), first["more"]) == ([2, 3], True)
    assert first["position"] == first["entries"][-1]["position"]
    rest = api_client.get(FEED, {"since": first["position"], "limit": 2}).json()
    assert (ids(rest["entries"]), rest["more"]) == ([4], False)
    again = api_client.get(FEED, {"since": rest["position"]}).json()
    assert again == {"entries": [], "position": rest["position"], "more": False}


def test_what_was_pruned_is_gone_and_so_is_the_place_before_it(api_client: APIClient) -> None:
    start = feed.head()
    floor = tell(1, 2)
    FeedEntry.objects.update(created_at=timezone.now() - timedelta(days=8))
    tell(3)
    tasks.prune_feed()
    gone = api_client.get(FEED, {"since": start})
    assert errors_of(gone, 410) == {None: "feed_pruned"}
    assert str(feed.head()) in gone.json()["errors"][0]["detail"]
    assert ids(api_client.get(FEED, {"since": floor}).json()["entries"]) == [3]
    assert errors_of(api_client.get(FEED, {"since": feed.head() + 1}), 410)


@pytest.mark.parametrize(
    "query", [{"since": "x"}, {"since": -1}, {"since": 2**63}, {"limit": 0}, {"limit": 501}]
)
def test_bad_queries_name_the_parameter(api_client: APIClient, query: dict[str, Any]) -> None:
    assert set(errors_of(api_client.get(FEED, query), 400)) == set(query)


def test_unknown_parameters_are_named(api_client: APIClient) -> None:
    assert errors_of(api_client.get(FEED, {"sice": 1}), 400) == {"sice": "unknown"}


def test_a_viewer_reads_the_feed_and_others_do_not(
    api: Callable[..., APIClient], viewer: User, make_user: Callable[..., User]
) -> None:
    assert api(viewer).get(FEED).status_code == 200
    nobody = make_user("nobody")
    for path in (FEED, f"{V1}/events"):
        assert api(nobody).get(path).status_code == 403
        assert api().get(path).status_code == 401


# --- pruning --------------------------------------------------------------------------------


def test_pruning_keeps_the_order_and_remembers_how_far(db: None) -> None:
    start = feed.head()
    middle = tell(1, 2, 3)
    tell(4, 5)
    old = timezone.now() - timedelta(days=9)
    FeedEntry.objects.filter(position=middle).update(created_at=old)  # those before look younger
    assert feed.prune(timezone.now() - timedelta(days=7)) == 3
    with pytest.raises(FeedPruned):
        feed.read_after(start, 10)
    assert len(feed.read_after(middle, 10)) == 2
    FeedEntry.objects.update(created_at=old)
    assert feed.prune(timezone.now() - timedelta(days=7), most=1) == 1
    assert feed.prune(timezone.now() - timedelta(days=7)) == 1
    assert feed.prune(timezone.now()) == 0
    assert feed.head() == middle + 2  # though nothing is left
    assert feed.read_after(middle + 2, 10) == []


# --- what an entry says ---------------------------------------------------------------------


def test_the_schema_says_what_an_event_holds() -> None:
    account = make_account()
    store.ingest_batch(lease(account), 0, Batch("c", (message(1),)))
    commit()
    (news,) = expand(feed.read_last(1))
    text = as_json(news).decode()
    assert text.startswith(f"event: changes\nid: {news.position}\ndata: {{")
    assert text.endswith("}\n\n")
    assert all(f'"{name}":' in text for name in NewsSerializer().fields)
    assert "\n" not in text.split("data: ")[1].rstrip("\n")


def test_many_rows_at_once_are_cut_and_said_so() -> None:
    account = make_account()
    many = tuple(message(n, f"c{n}") for n in range(MOST_CONVERSATIONS + 10))
    store.ingest_batch(lease(account), 0, Batch("c", many))
    commit()
    (news,) = expand(feed.read_last(1))
    assert len(news.conversations) == MOST_CONVERSATIONS
    assert not news.is_whole


def test_expanding_takes_the_same_queries_for_one_entry_as_for_many(
    django_assert_num_queries: Any,
) -> None:
    account = make_account()
    for number in range(20):
        account.refresh_from_db()
        store.ingest_batch(
            lease(account), account.sequence, Batch(str(number), (message(number, f"c{number}"),))
        )
        commit()
    for most in (1, 20):
        entries = feed.read_last(most)
        with django_assert_num_queries(4):
            expand(entries)


def test_a_deleted_account_leaves_no_unread_behind() -> None:
    account = make_account()
    store.ingest_batch(lease(account), 0, Batch("c", (message(1),)))
    account_id = account.pk
    services.delete_account(Account.objects.get())
    commit()
    (_batch, deleted) = expand(feed.read_last(2))
    assert deleted.changes == {"account": {"changed": [account_id]}}
    assert deleted.unread is not None
    assert (deleted.unread.total, deleted.unread.accounts) == (0, {account_id: 0})


def test_unread_over_the_api_and_marking_all_read(api_client: APIClient) -> None:
    accounts = [make_account(), make_account()]
    for account in accounts:
        store.ingest_batch(lease(account), 0, Batch("c", (message(1), message(2))))
    figures = api_client.get(f"{V1}/inbox/unread").json()
    assert figures == {
        "total": 4,
        "platforms": {"tiny": 4},
        "accounts": {str(account.pk): 2 for account in accounts},
    }
    path = f"{V1}/inbox/read"
    assert errors_of(api_client.post(path, {}, format="json"), 400) == {"confirm": "required"}
    no = api_client.post(path, {"confirm": False}, format="json")
    assert errors_of(no, 400) == {"confirm": "unconfirmed"}
    done = api_client.post(path, {"confirm": True}, format="json")
    assert done.json() == {"read": 4, "unread": 0}
    assert api_client.get(f"{V1}/inbox/unread").json()["accounts"] == {}
