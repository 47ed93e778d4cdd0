"""The operators' home and the frame around every page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from lifecycle.models import WorkerConfig
from sync import overview, queries, services
from sync.models import Account
from tests.db.api_helpers import make_account

pytestmark = pytest.mark.django_db

HOME = reverse("admin:index")


def connect(number: int) -> Account:
    return services.create_account(
        {
            "platform": "matrix",
            "identifier": f"@{number}:example.org",
            "endpoint": "https://matrix.example.org",
            "credentials": {"username": "a", "password": "b"},
        }
    )


def test_a_fresh_home_says_what_to_do_next(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    text = client.get(HOME).content.decode()
    assert "What to do next" in text
    assert reverse("admin:sync_account_add") in text
    assert "make demo" in text
    connect(1)
    assert "What to do next" not in client.get(HOME).content.decode()


def test_failing_means_the_same_everywhere(
    client: Client, viewer: User, api: Any, make_config: Any
) -> None:
    """A lost login counts, on the home page, on the page Sync, in the list and over the API."""
    kinds: tuple[dict[str, Any], ...] = (
        {"login_state": "failed"},
        {"login_state": "expired"},
        {"error_count": 2},
        {},
    )
    for number, fields in enumerate(kinds, start=1):
        make_account(number, name=f"account {number}", last_error="refused", **fields)
    make_account(9, name="account 9", enabled=False, error_count=3)
    client.force_login(viewer)
    assert "3 failing" in client.get("/admin/").content.decode()
    assert overview.figures(timezone.now())["failing"] == queries.totals()["failing"] == 3
    listed = client.get("/admin/sync/account/?failing=yes").content.decode()
    names = [n for n in range(1, 10) if f"<b>account {n}</b>" in listed]
    assert names == [1, 2, 3]
    others = client.get("/admin/sync/account/?failing=no").content.decode()
    assert [n for n in range(1, 10) if f"<b>account {n}</b>" in others] == [4, 9]
    found = api(viewer).get("/api/v1/accounts?failing=true").json()["results"]
    assert {one["name"] for one in found} == {"account 1", "account 2", "account 3"}
    assert all(not one["error_is_over"] for one in found)


def test_a_worker_shows_its_accounts(client: Client, viewer: User, make_config: Any) -> None:
    config, other = make_config(worker_id="w1"), make_config(worker_id="w2")
    for number in range(1, 13):
        make_account(number, name=f"account {number}", worker=config)
    make_account(20, name="in trouble", worker=config, error_count=1)
    make_account(21, name="elsewhere", worker=other)
    client.force_login(viewer)
    asked = reverse("admin:sync_account_worker", args=[config.pk])
    assert (
        asked in client.get(f"/admin/lifecycle/workerruntime/{config.pk}/change/").content.decode()
    )
    page = client.get(asked).content.decode()
    assert page.index("in trouble") < page.index("account 1<")
    assert "elsewhere" not in page
    assert ">13<" in page
    assert "1 failing" in page
    link = f"/admin/sync/account/?worker__id__exact={config.pk}"
    assert f"{link}&amp;failing=yes" in page
    listed = client.get(f"{link}&failing=yes").content.decode()
    assert "in trouble" in listed
    assert "account 12" not in listed


def test_an_error_that_is_over_says_so(client: Client, viewer: User, api: Any) -> None:
    account = make_account(1, last_error="connection refused", last_error_at=timezone.now())
    client.force_login(viewer)
    asked = reverse("admin:sync_account_proof", args=[account.pk])
    path = f"/api/v1/accounts/{account.pk}"
    page = client.get(asked).content.decode()
    assert "connection refused" in page
    assert ">over<" in page
    assert api(viewer).get(path).json()["error_is_over"] is True
    assert "connection refused" not in client.get("/admin/sync/account/").content.decode()
    Account.objects.update(error_count=1)
    page = client.get(asked).content.decode()
    assert "still there" in page
    assert ">over<" not in page
    assert api(viewer).get(path).json()["error_is_over"] is False
    assert "connection refused" in client.get("/admin/sync/account/").content.decode()


def test_it_names_failing_accounts(client: Client, viewer: User) -> None:
    account = connect(1)
    Account.objects.update(error_count=1, last_error="<no route>", login_state="none")
    client.force_login(viewer)
    text = client.get(HOME).content.decode()
    assert "&lt;no route&gt;" in text
    assert reverse("admin:sync_account_change", args=[account.pk]) in text


def test_a_poll_is_small_and_its_queries_do_not_grow(
    client: Client,
    viewer: User,
    make_config: Callable[..., WorkerConfig],
    django_assert_max_num_queries: Any,
) -> None:
    client.force_login(viewer)
    make_config()
    connect(1)
    with django_assert_max_num_queries(11) as few:
        answer = client.get(HOME, headers={"HX-Target": "live-home"})
    assert "<html" not in answer.content.decode()
    for number in range(2, 8):
        make_config()
        connect(number)
    with django_assert_max_num_queries(len(few.captured_queries)):
        client.get(HOME, headers={"HX-Target": "live-home"})


def test_staff_without_a_role_see_no_figures(
    client: Client, make_user: Callable[..., User]
) -> None:
    client.force_login(make_user("nobody", is_staff=True))
    text = client.get(HOME).content.decode()
    assert "Workers running" not in text
    assert reverse("admin:lifecycle_workerruntime_changelist") not in text


def test_the_sidebar_shows_what_a_role_may_open(
    client: Client, viewer: User, admin_user: User
) -> None:
    users = reverse("admin:auth_user_changelist")
    client.force_login(viewer)
    text = client.get(HOME).content.decode()
    assert reverse("flower", args=[""]) in text
    assert users not in text
    client.force_login(admin_user)
    assert users in client.get(HOME).content.decode()


def test_a_login_leads_home(client: Client, admin_user: User) -> None:
    given = {"username": "admin", "password": "password"}
    answer = client.post(reverse("admin:login"), given)
    assert (answer.status_code, answer["Location"]) == (302, HOME)


def test_it_speaks_chinese(client: Client, viewer: User) -> None:
    client.force_login(viewer)
    client.cookies["django_language"] = "zh-hans"
    assert "工作进程" in client.get(HOME).content.decode()


@pytest.mark.parametrize(
    "name",
    [
        "auth_user_changelist",
        "auth_user_add",
        "auth_group_changelist",
        "django_celery_beat_periodictask_changelist",
        "django_celery_beat_periodictask_add",
        "django_celery_results_taskresult_changelist",
    ],
)
def test_pages_of_other_packages_render(client: Client, admin_user: User, name: str) -> None:
    client.force_login(admin_user)
    assert client.get(reverse(f"admin:{name}")).status_code == 200
