"""Rolling restarts in the admin: who may do what, pages, and where they are offered [L8, C4]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from lifecycle import services
from lifecycle.models import Rollout, WorkerConfig
from tests.db.test_admin_fleet import FLEET, filled, page
from tests.db.test_rollouts import complete_restart
from tests.db.test_services import bring_up

pytestmark = pytest.mark.django_db

LIST = reverse("admin:lifecycle_rollout_changelist")
BEGIN = reverse("admin:lifecycle_rollout_begin")
BANNER = reverse("admin:lifecycle_rollout_banner")
HOME = reverse("admin:index")
LIMITS = {"max_surge": 1, "max_unavailable": 0, "timeout_ms": 30_000}
MakeConfig = Callable[..., WorkerConfig]


@pytest.fixture
def three(make_config: MakeConfig) -> list[WorkerConfig]:
    made = [make_config(worker_id=name) for name in ("wa", "wb", "wc")]
    for config in made:
        bring_up(config)
    return made


def outdate(config: WorkerConfig) -> None:
    services.update_config(config, {"concurrency": 3}, "ann")


def shown(rollout: Rollout) -> str:
    return reverse("admin:lifecycle_rollout_change", args=[rollout.pk])


def abort(rollout: Rollout) -> str:
    return reverse("admin:lifecycle_rollout_abort", args=[rollout.pk])


def text_of(client: Client, address: str, **query: str) -> str:
    answer = client.get(address, query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_from_selected_workers_to_the_page(
    client: Client, operator: User, three: list[WorkerConfig]
) -> None:
    client.force_login(operator)
    chosen = {"action": "roll_selected", "_selected_action": [three[0].pk, three[2].pk]}
    asked = client.post(FLEET, chosen).content.decode()
    assert 'value="wa,wc"' in asked
    assert not Rollout.objects.exists()
    begun = client.post(BEGIN, {"worker_ids": "wa,wc", **LIMITS, "max_surge": 2}, follow=True)
    rollout = Rollout.objects.get()
    assert begun.redirect_chain == [(shown(rollout), 302)]
    assert (rollout.max_surge, rollout.actor) == (2, "operator")
    assert [step.config.worker_id for step in rollout.steps.all()] == ["wa", "wc"]
    assert "0 / 2" in begun.content.decode()


def test_progress_is_polled(client: Client, viewer: User, three: list[WorkerConfig]) -> None:
    rollout = services.begin_rollout(["wa", "wb"], "ann")
    services.advance_rollout(timezone.now())
    complete_restart("wa")
    services.advance_rollout(timezone.now())
    client.force_login(viewer)
    polled = client.get(shown(rollout), headers={"HX-Target": "live-rollout"}).content.decode()
    assert "<html" not in polled
    assert "1 / 2" in polled
    assert abort(rollout) not in polled
    listed = client.get(LIST, headers={"HX-Target": "live-rows"}).content.decode()
    assert "1 / 2" in listed


def test_an_abort_is_asked_for_twice(
    client: Client, operator: User, three: list[WorkerConfig]
) -> None:
    rollout = services.begin_rollout(["wa", "wb"], "ann")
    client.force_login(operator)
    assert abort(rollout) in text_of(client, shown(rollout))
    assert "Abort this rolling restart?" in text_of(client, abort(rollout))
    rollout.refresh_from_db()
    assert rollout.state == "running"
    for _ in range(2):
        answer = client.post(abort(rollout), follow=True)
        assert "aborted by operator" in answer.content.decode()
    assert abort(rollout) not in text_of(client, shown(rollout))


@pytest.mark.parametrize("role", ["viewer", ""])
def test_others_only_watch(
    client: Client, make_user: Callable[..., User], three: list[WorkerConfig], role: str
) -> None:
    outdate(three[0])
    rollout = services.begin_rollout(["wa"], "ann")
    client.force_login(make_user("somebody", role, is_staff=True))
    for address in (LIST, shown(rollout)):
        assert client.get(address).status_code == (200 if role else 403)
    for address in (BEGIN, abort(rollout)):
        assert client.get(address).status_code == 403
        assert client.post(address, {"worker_ids": "wa", **LIMITS}).status_code == 403
    assert BEGIN not in text_of(client, HOME)
    assert BEGIN not in text_of(client, BANNER)
    assert Rollout.objects.get().state == "running"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_surge": 0}, "With both limits at 0"),
        ({"max_surge": -1}, "greater than or equal to 0"),
        ({"timeout_ms": "soon"}, "Enter a whole number"),
        ({"timeout_ms": 1}, "greater than or equal to 1000"),
        ({"worker_ids": "wa,nobody"}, "nobody"),
        ({"worker_ids": ""}, "Restart 0 workers"),
    ],
)
def test_what_is_wrong_stands_in_the_form(
    client: Client, operator: User, three: list[WorkerConfig], given: dict[str, Any], said: str
) -> None:
    client.force_login(operator)
    answer = client.post(BEGIN, {"worker_ids": "wa", **LIMITS, **given})
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not Rollout.objects.exists()


def test_a_second_one_is_refused_in_words(
    client: Client, operator: User, three: list[WorkerConfig]
) -> None:
    first = services.begin_rollout(["wa"], "ann")
    client.force_login(operator)
    answer = client.post(BEGIN, {"worker_ids": "wb", **LIMITS})
    assert f"Rolling restart {first.pk} is under way" in answer.content.decode()


def test_outdated_workers_are_marked_and_offered(
    client: Client, operator: User, three: list[WorkerConfig]
) -> None:
    client.force_login(operator)
    for address in (FLEET, HOME):
        assert BEGIN not in text_of(client, address)
    assert client.get(BEGIN, {"outdated": "1"}, follow=True).redirect_chain == [(FLEET, 302)]
    outdate(three[1])
    for address in (FLEET, HOME, BANNER):
        text = text_of(client, address)
        assert "1 worker runs an older config or code." in text
        assert f"{BEGIN}?outdated=1" in text
    assert "It runs with an older config" in text_of(client, FLEET)
    assert "It runs with an older config" in text_of(client, page(three[1]))
    assert "It runs with an older config" not in text_of(client, page(three[0]))
    assert 'value="wb"' in text_of(client, BEGIN, outdated="1")


def test_the_banner_shows_what_is_under_way(
    client: Client, operator: User, three: list[WorkerConfig]
) -> None:
    outdate(three[1])
    rollout = services.begin_rollout(["wb"], "ann")
    client.force_login(operator)
    for address in (FLEET, HOME, BANNER):
        text = text_of(client, address)
        assert shown(rollout) in text
        assert "older config or code." not in text


def test_a_changed_config_offers_the_restart(
    client: Client, admin_user: User, three: list[WorkerConfig]
) -> None:
    client.force_login(admin_user)
    change = reverse("admin:lifecycle_workerconfig_change", args=[three[0].pk])
    same = client.post(change, filled(worker_id="wa", description="new"), follow=True)
    assert "still runs with its old config" not in same.content.decode()
    answer = client.post(change, filled(worker_id="wa", concurrency=7), follow=True)
    assert "wa still runs with its old config" in answer.content.decode()
    assert f"{BEGIN}?outdated=1" in answer.content.decode()


def test_the_page_of_a_worker_shows_both_processes(
    client: Client, viewer: User, three: list[WorkerConfig]
) -> None:
    client.force_login(viewer)
    assert "New process" not in text_of(client, page(three[0]))
    services.request_restart("wa", "ann")
    services.claim_succession("wa", 2)
    assert "New process" in text_of(client, page(three[0]))


def test_queries_do_not_grow(
    client: Client,
    operator: User,
    three: list[WorkerConfig],
    make_config: MakeConfig,
    django_assert_num_queries: Any,
    django_assert_max_num_queries: Any,
) -> None:
    client.force_login(operator)
    few = services.begin_rollout(["wa"], "ann")
    services.abort_rollout(few.pk, "ann")
    with django_assert_max_num_queries(7) as one:
        client.get(shown(few), headers={"HX-Target": "live-rollout"})
    with django_assert_max_num_queries(8) as rows:
        client.get(LIST, headers={"HX-Target": "live-rows"})
    with django_assert_max_num_queries(7) as offered:
        client.get(BANNER)
    names = [make_config(worker_id=f"w{number}").worker_id for number in range(20)]
    many = services.begin_rollout(names, "ann")
    with django_assert_num_queries(len(one.captured_queries)):
        client.get(shown(many), headers={"HX-Target": "live-rollout"})
    with django_assert_num_queries(len(rows.captured_queries)):
        client.get(LIST, headers={"HX-Target": "live-rows"})
    with django_assert_max_num_queries(len(offered.captured_queries)):
        client.get(BANNER)
