"""Configs in the admin: who reads the secrets in them, and two people at one config."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from lifecycle import services
from lifecycle.models import WorkerConfig
from tests.db.test_admin_fleet import filled

pytestmark = pytest.mark.django_db

SECRET = "s3cr3t-value"
CHANGED = "n3w-s3cr3t"
MakeConfig = Callable[..., WorkerConfig]


def change_page(config: WorkerConfig) -> str:
    return reverse("admin:lifecycle_workerconfig_change", args=[config.pk])


def history_page(config: WorkerConfig) -> str:
    first = config.history.earliest()
    return reverse("admin:lifecycle_workerconfig_simple_history", args=[config.pk, first.pk])


@pytest.mark.parametrize(("role", "sees"), [("viewer", 0), ("operator", 0), ("admin", 1)])
def test_secrets_are_masked_as_over_the_api(
    client: Client,
    make_user: Callable[..., User],
    make_config: MakeConfig,
    role: str,
    sees: int,
) -> None:
    config = make_config(
        env_variables={"API_TOKEN": SECRET, "LANG": "zh_CN"},
        deployment_options={"password": SECRET},
    )
    services.update_config(config, {"env_variables": {"API_TOKEN": CHANGED, "LANG": "zh_CN"}}, "x")
    client.force_login(make_user("somebody", role))
    history = reverse("admin:lifecycle_workerconfig_history", args=[config.pk])
    for address in (change_page(config), history_page(config), history):
        text = client.get(address).content.decode()
        assert (SECRET in text or CHANGED in text) is bool(sees), address
    assert "zh_CN" in client.get(change_page(config)).content.decode()


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_may_not_change_may_not_restore(
    client: Client, make_user: Callable[..., User], make_config: MakeConfig, role: str
) -> None:
    config = make_config()
    client.force_login(make_user("somebody", role))
    assert client.get(history_page(config)).status_code == 200
    assert client.post(history_page(config), filled(max_accounts=99)).status_code == 403
    config.refresh_from_db()
    assert (config.max_accounts, config.version) == (10, 1)


def test_two_people_edit_one_config(
    client: Client, administrator: User, make_config: MakeConfig
) -> None:
    config = make_config()
    client.force_login(administrator)
    seen = client.get(change_page(config)).context["adminform"].form["seen"].value()
    assert seen == 1
    services.update_config(WorkerConfig.objects.get(), {"max_accounts": 77}, "somebody")
    given = filled(name="mine", max_accounts=12, seen=seen)
    answer = client.post(change_page(config), given)
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "Version 1 is out of date, version 2 is current." in text
    rows = {row["field"]: (row["yours"], row["current"]) for row in answer.context["conflict_rows"]}
    assert (rows["name"], rows["max_accounts"]) == (("mine", ""), ("12", "77"))
    assert rows["auto_restart"] == ("false", "true")  # a box that was not ticked
    assert len(rows) == 3
    assert 'name="take" value="max_accounts"' in text
    assert 'value="mine"' in text
    config.refresh_from_db()
    assert (config.max_accounts, config.version) == (77, 2)

    given["seen"] = answer.context["adminform"].form["seen"].value()
    assert client.post(change_page(config), given).status_code == 302
    config.refresh_from_db()
    assert (config.name, config.max_accounts, config.version) == ("mine", 12, 3)


def test_of_a_conflict_single_fields_can_be_taken_over(
    client: Client, administrator: User, make_config: MakeConfig
) -> None:
    config = make_config()
    client.force_login(administrator)
    theirs = {"max_accounts": 77, "env_variables": {"A": "1"}}
    services.update_config(WorkerConfig.objects.get(), theirs, "somebody")
    given = filled(name="mine", max_accounts=12, seen=1)
    answer = client.post(change_page(config), given)
    given["seen"] = answer.context["adminform"].form["seen"].value()
    given["take"] = ["max_accounts", "env_variables"]
    services.update_config(WorkerConfig.objects.get(), {"description": "a third"}, "x")
    answer = client.post(change_page(config), given)  # and out of date once more
    assert answer.context["conflict"].current == 3
    given["seen"] = answer.context["adminform"].form["seen"].value()
    assert client.post(change_page(config), given).status_code == 302
    config.refresh_from_db()
    assert (config.name, config.max_accounts, config.env_variables) == ("mine", 77, {"A": "1"})
    assert (config.description, config.version) == ("", 4)


def test_a_type_that_can_not_be_started_is_said(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    add = reverse("admin:lifecycle_workerconfig_add")
    text = client.post(add, filled(deployment_type="ssh"), follow=True).content.decode()
    assert "started here yet" in text
    assert WorkerConfig.objects.get().deployment_type == "ssh"


@pytest.mark.parametrize("name", ["MUSTER_HOME", "MUSTER_LOG_LEVEL", "DATABASE_URL", "BROKER_URL"])
def test_settings_of_the_installation_are_refused_in_a_worker(
    api_client: APIClient, name: str
) -> None:
    body = {"worker_id": "w", "env_variables": {name: "x"}}
    answer = api_client.post("/api/v1/worker-configs", body, format="json")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["attr"] == "env_variables"
    assert name in answer.json()["errors"][0]["detail"]


def test_the_worker_id_can_not_be_patched(api_client: APIClient, make_config: MakeConfig) -> None:
    make_config(worker_id="w")
    patch = api_client.patch
    same = patch("/api/v1/worker-configs/w", {"worker_id": "w"}, format="json")
    assert same.status_code == 200
    other = patch("/api/v1/worker-configs/w", {"worker_id": "v"}, format="json")
    assert other.status_code == 400
    assert other.json()["errors"][0]["attr"] == "worker_id"


def test_a_wish_answers_with_what_comes_next(
    api_client: APIClient, make_config: MakeConfig
) -> None:
    make_config(worker_id="w", auto_start=True)
    services.claim_start("w", 1)
    assert api_client.post("/api/v1/workers/w/stop").json()["status"] == "stopping"
    assert api_client.post("/api/v1/workers/w/restart").json()["status"] == "starting"


def test_who_deletes_is_told_how_long_the_log_files_stay(
    client: Client, administrator: User, make_config: MakeConfig
) -> None:
    config = make_config()
    client.force_login(administrator)
    page = reverse("admin:lifecycle_workerconfig_delete", args=[config.pk])
    assert "stay on its host for 7 days" in client.get(page).content.decode()
    assert client.post(page, {"post": "yes"}).status_code == 302
    assert not WorkerConfig.objects.exists()
