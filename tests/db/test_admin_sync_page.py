"""The page "Sync" and what other pages say of stalled accounts [S7]."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lifecycle.models import WorkerRuntime
from sync.models import DeadLetter, PlatformServer, SyncRun
from tests.db.sync_stage import make_account

pytestmark = pytest.mark.django_db

URL = "/admin/sync/platformserver/"


def fill(make_config: Any, number: int = 1) -> None:
    now = timezone.now()
    config = make_config()
    WorkerRuntime.objects.filter(pk=config.pk).update(
        state="running", desired_state="running", generation=1, last_generation=1
    )
    for n in range(number):
        account = make_account(
            name=f"Sales {n}",
            worker=config,
            claimed_generation=1,
            watched_at=now,
            last_sync_at=now - timedelta(seconds=4000),
            stalled_since=now,
            last_error="connection refused",
        )
        SyncRun.objects.create(
            account=account, sequence=1, epoch=1, outcome="committed", read=50, new=50, size=4096
        )
        DeadLetter.objects.create(account=account, kind="m", raw={}, error="odd", identity="1")
        PlatformServer.objects.create(
            platform="matrix",
            endpoint=f"https://{n}.test",
            state="open",
            failures=6,
            retry_at=now + timedelta(seconds=30),
            last_error="connection refused",
        )


def test_the_page_says_how_syncing_goes(client: Client, admin_user: User, make_config: Any) -> None:
    fill(make_config)
    client.force_login(admin_user)
    page = client.get(URL).content.decode()
    for text in (
        "<dd>10</dd>",
        "1 h 6 min",
        "https://0.test",
        "not asked",
        "6 failures in a row",
        "Sales 0",
        "test-1",
        "connection refused",
    ):
        assert text in page, text
    live = client.get(URL, headers={"HX-Request": "true", "HX-Target": "live-sync"})
    assert "<html" not in live.content.decode()
    assert "https://0.test" in live.content.decode()


def test_an_empty_page_says_what_to_do(client: Client, admin_user: User, viewer: User) -> None:
    client.force_login(admin_user)
    page = client.get(URL).content.decode()
    assert "No account is connected." in page
    assert "/admin/sync/account/add/" in page
    client.force_login(viewer)
    assert "/admin/sync/account/add/" not in client.get(URL).content.decode()


def test_without_a_role_there_is_no_page(client: Client, make_user: Any) -> None:
    client.force_login(make_user("nobody", is_staff=True))
    assert client.get(URL).status_code == 403


@pytest.mark.parametrize("number", [1, 30])
def test_a_poll_takes_the_same_queries_for_any_number(
    client: Client, admin_user: User, make_config: Any, number: int
) -> None:
    fill(make_config, number)
    client.force_login(admin_user)
    with CaptureQueriesContext(connection) as ran:
        client.get(URL, headers={"HX-Request": "true", "HX-Target": "live-sync"})
    assert len(ran) <= 12, [query["sql"][:90] for query in ran]


def test_a_stalled_account_is_shown_everywhere(
    client: Client, admin_user: User, api_client: Any, make_config: Any
) -> None:
    fill(make_config)
    fresh = make_account(name="Fresh")
    waits = make_account(name="Waits", login_state="failed")
    client.force_login(admin_user)
    assert "1 stalled" in client.get("/admin/").content.decode()
    found = client.get("/admin/sync/account/?stalled=yes").content.decode()
    assert "Sales 0" in found
    assert "Fresh" not in found
    assert ">stalled<" in found
    every = client.get("/admin/sync/account/").content.decode()
    assert "waits for a person" in every
    assert (
        "stalled since"
        in client.get(f"/admin/sync/account/{fresh.pk}/change/").content.decode().lower()
    )
    rows = api_client.get("/api/v1/accounts?stalled=true").json()["results"]
    assert [row["name"] for row in rows] == ["Sales 0"]
    assert rows[0]["stalled_since"] is not None
    names = {
        row["name"] for row in api_client.get("/api/v1/accounts?stalled=false").json()["results"]
    }
    assert names == {"Fresh", "Waits"}
    changed = api_client.patch(
        f"/api/v1/accounts/{waits.pk}", {"stalled_after_s": 119}, format="json"
    )
    assert changed.status_code == 400
    assert changed.json()["errors"][0]["attr"] == "stalled_after_s"


def test_a_backlog_is_no_step_and_comments_are_counted(
    client: Client, admin_user: User, make_config: Any
) -> None:
    config = make_config()
    WorkerRuntime.objects.filter(pk=config.pk).update(
        state="running", desired_state="running", generation=1, last_generation=1
    )
    now = timezone.now()
    make_account(worker=config, last_sync_at=now, backlog=1400)
    make_account(worker=config, last_sync_at=now, posts_total=1, comments_total=1501)
    client.force_login(admin_user)
    page = client.get("/admin/sync/account/").content.decode()
    assert "catching up" in page
    assert "about 1,400 to be read" in page
    assert page.count("in step") == 1
    assert "1,501" in page
    assert "comments on 1 post" in page


def test_the_api_lists_servers_that_fail(api_client: Any, make_config: Any) -> None:
    fill(make_config)
    (row,) = api_client.get("/api/v1/platform-servers?state=open").json()["results"]
    assert (row["endpoint"], row["state"], row["failures"]) == ("https://0.test", "open", 6)
    assert api_client.get("/api/v1/platform-servers?state=closed").json()["results"] == []
    assert api_client.get("/api/v1/platform-servers?state=odd").status_code == 400
