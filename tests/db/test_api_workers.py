"""Worker configs and workers over the API [C1]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from lifecycle import services
from lifecycle.models import WorkerConfig, WorkerLog, WorkerRuntime
from lifecycle.types import Instance
from tests.db.api_helpers import V1, detail_of, errors_of, run, spawn

CONFIGS, WORKERS = f"{V1}/worker-configs", f"{V1}/workers"
Maker = Callable[..., Any]


def runtime(worker_id: str) -> WorkerRuntime:
    return WorkerRuntime.objects.select_related("config").get(config__worker_id=worker_id)


# --- configs ---------------------------------------------------------------------------------


def test_create_read_change_delete(api_client: APIClient) -> None:
    body = {"worker_id": "a.b-1", "name": "客服", "env_variables": {"LANG": "zh"}, "port": 4001}
    created = api_client.post(CONFIGS, body, format="json")
    assert created.status_code == 201
    assert created["Location"].endswith(f"{CONFIGS}/a.b-1")
    assert created.json().items() >= {**body, "version": 1, "max_accounts": 10}.items()

    changed = api_client.patch(f"{CONFIGS}/a.b-1", {"port": None, "version": 1}, format="json")
    assert changed.status_code == 200
    assert changed.json()["version"] == 2
    assert api_client.get(f"{CONFIGS}/a.b-1").json() == changed.json()

    assert api_client.delete(f"{CONFIGS}/a.b-1").status_code == 204
    assert errors_of(api_client.get(f"{CONFIGS}/a.b-1"), 404)


def test_the_log_says_who_did_it(api: Maker, administrator: Any) -> None:
    api(administrator).post(CONFIGS, {"worker_id": "worker-1"}, format="json")
    assert WorkerLog.objects.get().actor == "administrator"


def test_auto_start_becomes_the_wish(api_client: APIClient) -> None:
    api_client.post(CONFIGS, {"worker_id": "w", "auto_start": True}, format="json")
    assert runtime("w").desired_state == "running"


def test_an_edit_that_is_out_of_date_is_409_with_both_versions(
    api_client: APIClient, make_config: Maker
) -> None:
    make_config(worker_id="worker-1")
    api_client.patch(f"{CONFIGS}/worker-1", {"name": "first"}, format="json")
    late = api_client.patch(f"{CONFIGS}/worker-1", {"name": "late", "version": 1}, format="json")
    assert errors_of(late, 409) == {None: "out_of_date"}
    assert detail_of(late).startswith("Version 1 is out of date, version 2 is current.")
    assert WorkerConfig.objects.get().name == "first"


def test_both_versions_are_data_and_hide_their_secrets(
    api: Maker, api_client: APIClient, administrator: Any, make_config: Maker
) -> None:
    make_config(worker_id="w", env_variables={"API_TOKEN": "s3cr3t-1"})
    theirs = {
        "queues": ["news"],
        "max_accounts": 7,
        "env_variables": {"API_TOKEN": "s3cr3t-2", "TZ": "UTC"},
    }
    api(administrator).patch(f"{CONFIGS}/w", theirs, format="json")
    mine = {"version": 1, "name": "mine", "max_accounts": 7}
    late = api_client.patch(f"{CONFIGS}/w", mine, format="json")
    assert errors_of(late, 409) == {None: "out_of_date"}
    assert late.json()["conflict"] == {
        "yours": 1,
        "current": 2,
        "changed_by": "administrator",
        "fields": {
            "name": {"yours": "mine", "current": ""},
            "queues": {"yours": ["default"], "current": ["news"]},
            "env_variables": {
                "yours": {"API_TOKEN": "********"},
                "current": {"API_TOKEN": "********", "TZ": "UTC"},
            },
        },
    }
    assert "s3cr3t" not in late.content.decode()
    again = api_client.patch(f"{CONFIGS}/w", {**mine, "version": 2}, format="json")
    assert (again.status_code, again.json()["version"]) == (200, 3)


def test_a_version_that_never_was_is_out_of_date_too(
    api_client: APIClient, make_config: Maker
) -> None:
    make_config(worker_id="w")
    answer = api_client.patch(f"{CONFIGS}/w", {"name": "n", "version": 9}, format="json")
    assert errors_of(answer, 409) == {None: "out_of_date"}
    conflict = answer.json()["conflict"]
    assert (conflict["yours"], conflict["current"], list(conflict["fields"])) == (9, 1, ["name"])


def test_the_worker_id_stays(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="worker-1")
    response = api_client.patch(f"{CONFIGS}/worker-1", {"worker_id": "other"}, format="json")
    assert errors_of(response, 400) == {"worker_id": "read_only"}


def test_a_running_worker_is_not_deleted(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="worker-1")
    run("worker-1")
    response = api_client.delete(f"{CONFIGS}/worker-1")
    assert errors_of(response, 409) == {None: "rejected"}
    assert "running" in detail_of(response)


def test_a_running_worker_keeps_its_deployment_type(
    api_client: APIClient, make_config: Maker
) -> None:
    """Only the backend that started it can end it."""
    make_config(worker_id="worker-1")
    run("worker-1")
    change = {"deployment_type": "docker"}
    response = api_client.patch(f"{CONFIGS}/worker-1", change, format="json")
    assert errors_of(response, 409) == {None: "rejected"}
    assert "running" in detail_of(response)
    config = WorkerConfig.objects.get()
    assert (config.deployment_type, config.version) == ("local", 1)
    same = {"deployment_type": "local", "name": "new"}
    assert api_client.patch(f"{CONFIGS}/worker-1", same, format="json").status_code == 200


def test_version_can_not_be_chosen_at_birth(api_client: APIClient) -> None:
    response = api_client.post(CONFIGS, {"worker_id": "w", "version": 9}, format="json")
    assert errors_of(response, 400) == {"version": "read_only"}


def test_old_versions_can_be_read_and_restored(api: Maker, administrator: Any) -> None:
    client = api(administrator)
    client.post(CONFIGS, {"worker_id": "w", "name": "one", "max_accounts": 3}, format="json")
    client.patch(f"{CONFIGS}/w", {"name": "two", "max_accounts": 4}, format="json")
    history = client.get(f"{CONFIGS}/w/versions").json()["results"]
    assert [(row["version"], row["change"]) for row in history] == [(2, "~"), (1, "+")]
    assert [row["config"]["name"] for row in history] == ["two", "one"]
    assert {row["changed_by"] for row in history} == {"administrator"}

    restored = client.post(f"{CONFIGS}/w/versions", {"version": 1}, format="json")
    assert restored.status_code == 200
    assert restored.json().items() >= {"name": "one", "max_accounts": 3, "version": 3}.items()
    missing = client.post(f"{CONFIGS}/w/versions", {"version": 8}, format="json")
    assert errors_of(missing, 400) == {"version": "unknown_version"}
    assert errors_of(client.post(f"{CONFIGS}/w/versions", {}, format="json"), 400)


SECRETS = {
    "DB_PASSWORD": "hunter2",
    "API_TOKEN": "hunter2",
    "SSH_PRIVATE_KEY": "hunter2",
    "SHOP_URL": "postgres://me:hunter2@db/x",
}


def test_secrets_are_masked_for_all_but_admins(
    api: Maker, viewer: Any, operator: Any, administrator: Any, make_config: Maker
) -> None:
    options = {"ssh": {"user": "deploy", "password": "hunter2"}, "port": 22}
    environment = {**SECRETS, "LANG": "zh_CN.UTF-8", "HOMEPAGE": "https://example.org/a@b"}
    make_config(worker_id="w", env_variables=environment, deployment_options=options)
    for user in (viewer, operator):
        for path in (CONFIGS, f"{CONFIGS}/w", f"{CONFIGS}/w/versions"):
            response = api(user).get(path)
            assert "hunter2" not in response.content.decode(), path
        shown = api(user).get(f"{CONFIGS}/w").json()
        assert shown["env_variables"]["LANG"] == "zh_CN.UTF-8"
        assert shown["env_variables"]["HOMEPAGE"] == "https://example.org/a@b"
        assert set(shown["env_variables"]) == set(environment)
        assert shown["deployment_options"]["ssh"]["user"] == "deploy"
        assert shown["deployment_options"]["port"] == 22
    assert api(administrator).get(f"{CONFIGS}/w").json()["env_variables"] == environment


def test_summary(api_client: APIClient, make_config: Maker) -> None:
    make_config(max_accounts=3)
    make_config(max_accounts=4, deployment_type="ssh")
    make_config(max_accounts=5, enabled=False, auto_start=True)
    assert api_client.get(f"{CONFIGS}/stats/summary").json() == {
        "total": 3,
        "enabled": 2,
        "disabled": 1,
        "auto_start": 1,
        "total_capacity": 7,
        "by_deployment_type": {"local": 2, "ssh": 1, "docker": 0, "kubernetes": 0},
    }


# --- workers ---------------------------------------------------------------------------------


def test_list_filters_and_orders(api_client: APIClient, make_config: Maker) -> None:
    for name, kind in (("b", "local"), ("a", "ssh"), ("c", "local")):
        make_config(worker_id=name, name=f"Worker {name.upper()}", deployment_type=kind)
    run("c")

    def ids(query: str) -> list[str]:
        found = api_client.get(f"{WORKERS}?{query}").json()["results"]
        return [row["worker_id"] for row in found]

    assert ids("") == ["a", "b", "c"]
    assert ids("ordering=-worker_id") == ["c", "b", "a"]
    assert ids("state=running") == ["c"]
    assert ids("state=running&state=stopped") == ["a", "b", "c"]
    assert ids("deployment_type=local") == ["b", "c"]
    assert ids("search=worker+A") == ["a"]
    assert ids("desired_state=running") == ["c"]


def test_status_has_everything(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="w")
    run("w")
    body = api_client.get(f"{WORKERS}/w/status").json()
    assert body["status"] == "running"
    assert body["process_id"] == 4242
    assert body["celery_version"] == "5.6"
    assert body["desired_state"] == "running"
    listed = api_client.get(WORKERS).json()["results"][0]
    assert body.keys() <= listed.keys()


def test_stop_and_restart_are_idempotent(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="w")
    assert api_client.post(f"{WORKERS}/w/stop").status_code == 200
    run("w")
    codes = [api_client.post(f"{WORKERS}/w/restart").status_code for _ in range(2)]
    assert codes == [202, 200]
    body = {"graceful": True, "timeout": 1500}
    codes = [
        api_client.post(f"{WORKERS}/w/stop", body, format="json").status_code for _ in range(2)
    ]
    assert codes == [202, 200]
    assert runtime("w").stop_timeout_ms == 1500
    forced = api_client.post(f"{WORKERS}/w/stop", {"graceful": False}, format="json")
    assert forced.status_code == 202
    assert forced.json()["success"] is True


@pytest.mark.parametrize(
    ("body", "replaces"),
    [
        ({}, True),
        ({"replace": True}, True),
        ({"replace": False}, False),
        ({"graceful": False}, False),
        ({"graceful": False, "replace": True}, False),
    ],
)
def test_a_restart_replaces_unless_told_otherwise(
    api_client: APIClient, make_config: Maker, body: dict[str, Any], replaces: bool
) -> None:
    for worker_id in ("one", "many"):
        make_config(worker_id=worker_id)
        run(worker_id)
        WorkerRuntime.objects.update(replace_first=not replaces)
    api_client.post(f"{WORKERS}/one/restart", body, format="json")
    assert batch(api_client, action="restart", worker_ids=["many"], options=body).json()["success"]
    assert runtime("one").replace_first is replaces
    assert runtime("many").replace_first is replaces


def test_only_a_restart_replaces(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="w")
    response = api_client.post(f"{WORKERS}/w/stop", {"replace": True}, format="json")
    assert errors_of(response, 400) == {"replace": "unknown"}
    response = batch(api_client, action="stop", worker_ids=["w"], options={"replace": True})
    assert errors_of(response, 400) == {"options.replace": "unknown"}


def test_outdated_workers_are_shown_and_listed(api_client: APIClient, make_config: Maker) -> None:
    config = make_config(worker_id="old")
    make_config(worker_id="new")
    for worker_id in ("old", "new"):
        run(worker_id)
    services.update_config(config, {"concurrency": 3}, "ann")
    for wanted, found in (("true", ["old"]), ("false", ["new"])):
        rows = api_client.get(f"{WORKERS}?outdated={wanted}").json()["results"]
        assert [row["worker_id"] for row in rows] == found
    assert api_client.get(f"{WORKERS}/old/status").json()["outdated"] is True
    assert api_client.get(f"{WORKERS}/new/status").json()["outdated"] is False


def test_start_of_what_can_not_be_spawned_says_why(
    api_client: APIClient, make_config: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_config(worker_id="w", working_directory="/nowhere")
    wait = services.wait_for_process

    def refuse(worker_id: str) -> WorkerRuntime:
        services.claim_start(worker_id, 1)
        services.spawn_refused(Instance(worker_id, 1), "/nowhere is not a directory")
        return wait(worker_id)

    monkeypatch.setattr(services, "wait_for_process", refuse)
    response = api_client.post(f"{WORKERS}/w/start")
    assert errors_of(response, 409) == {None: "rejected"}
    assert "/nowhere" in detail_of(response)


def test_start_without_a_master_answers_with_what_is_known(
    api_client: APIClient, make_config: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_config(worker_id="w")
    wait = services.wait_for_process
    monkeypatch.setattr(services, "wait_for_process", lambda worker_id: wait(worker_id, 0))
    response = api_client.post(f"{WORKERS}/w/start")
    assert response.status_code == 202
    assert response.json()["status"] == "stopped"
    assert response.json()["process_id"] is None
    assert runtime("w").desired_state == "running"


def test_health_names_each_check(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="w")
    run("w")
    healthy = api_client.get(f"{WORKERS}/w/health").json()
    assert healthy["healthy"] is True
    assert healthy["checks"] == dict.fromkeys(
        ["heartbeat", "consuming", "memory", "cpu", "tasks"], "ok"
    )


# --- batch -----------------------------------------------------------------------------------


BAD_IDS = {f"worker_ids.{n}" for n in range(4)}


def batch(client: APIClient, **body: Any) -> Any:
    return client.post(f"{WORKERS}/batch", body, format="json")


def test_batch_has_a_result_for_each(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="a")
    make_config(worker_id="b", enabled=False)
    make_config(worker_id="c")
    run("c")
    response = batch(api_client, action="start", worker_ids=["a", "b", "nobody", "c", "a"])
    assert response.status_code == 200
    body = response.json()
    assert body["success"] is False
    assert (body["succeeded"], body["failed"]) == (2, 2)
    results = {row["worker_id"]: row for row in body["results"]}
    assert list(results) == ["a", "b", "nobody", "c"]
    assert len(body["results"]) == 4
    assert results["a"]["changed"] is True
    assert results["c"] == {
        "worker_id": "c",
        "success": True,
        "changed": False,
        "status": "running",
        "error": None,
    }
    assert results["b"]["error"]["code"] == "rejected"
    assert "disabled" in results["b"]["error"]["detail"]
    assert results["nobody"]["error"]["code"] == "unknown_worker"
    assert runtime("a").desired_state == "running"


def test_batch_passes_its_options_on(api_client: APIClient, make_config: Maker) -> None:
    make_config(worker_id="a")
    run("a")
    options = {"graceful": False, "timeout": 7}
    assert batch(api_client, action="stop", worker_ids=["a"], options=options).status_code == 200
    assert (runtime("a").stop_graceful, runtime("a").stop_timeout_ms) == (False, 7)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"action": "explode", "worker_ids": ["a"]}, {"action"}),
        ({"action": "stop", "worker_ids": []}, {"worker_ids"}),
        ({"action": "stop", "worker_ids": ["a"] * 10_001}, {"worker_ids"}),
        ({"action": "stop", "worker_ids": "a"}, {"worker_ids"}),
        ({"action": "stop", "worker_ids": [{}]}, {"worker_ids.0"}),
        ({}, {"action", "worker_ids"}),
        ({"action": "stop", "worker_ids": ["a"], "options": {"now": True}}, {"options.now"}),
        ({"action": "stop", "worker_ids": ["a"], "options": {"timeout": -1}}, {"options.timeout"}),
        (
            {"action": "start", "worker_ids": ["a"], "options": {"graceful": True, "timeout": 5}},
            {"options.graceful", "options.timeout"},
        ),
        ({"action": "stop", "worker_ids": ["a"], "options": None}, {"options"}),
        ({"action": "stop", "worker_ids": ["a"], "wait": True}, {"wait"}),
        ({"action": 5, "worker_ids": [None, "", "x" * 201, "\0"]}, BAD_IDS | {"action"}),
    ],
)
def test_bad_batches(api_client: APIClient, body: dict[str, Any], names: set[str]) -> None:
    assert set(errors_of(batch(api_client, **body), 400)) == names


def test_unknown_ids_of_a_large_batch_cost_one_query(
    api_client: APIClient, make_config: Maker, django_assert_max_num_queries: Any
) -> None:
    make_config(worker_id="a")
    ids = [f"unknown-{n}" for n in range(9_999)]
    with django_assert_max_num_queries(20):
        body = batch(api_client, action="start", worker_ids=[*ids, "a"]).json()
    assert (body["succeeded"], body["failed"], len(body["results"])) == (1, 9_999, 10_000)
    assert body["results"][-1] == {
        "worker_id": "a",
        "success": True,
        "changed": True,
        "status": "starting",
        "error": None,
    }


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_every_result_of_a_batch_that_is_refused_says_why(
    api_client: APIClient, make_config: Maker, verb: str
) -> None:
    """[L8] `worker-7 is stopping; try again or force`: the same words as for one worker."""
    make_config(worker_id="off", enabled=False)
    make_config(worker_id="ending")
    run("ending")
    services.request_stop("ending", "test")
    services.stopping(Instance("ending", runtime("ending").generation), "test")
    body = batch(api_client, action=verb, worker_ids=["off", "ending", "nobody"]).json()
    said = {row["worker_id"]: row["error"] and row["error"]["detail"] for row in body["results"]}
    assert said["nobody"] == "there is no worker 'nobody'"
    if verb != "stop":
        assert said["off"] == "off is disabled; enable its config first."
    if verb == "start":
        assert said["ending"] == (
            "ending is stopping; try again when it has stopped, or force the stop."
        )


def test_overview(api_client: APIClient, make_config: Maker) -> None:
    make_config(max_accounts=3)
    make_config(worker_id="w", max_accounts=4)
    run("w")
    body = api_client.get(f"{WORKERS}/stats/overview").json()
    expected = {"total": 2, "running": 1, "stopped": 1, "error": 0, "total_capacity": 7}
    assert body.items() >= expected.items()


def test_a_worker_may_have_the_name_of_a_verb(api_client: APIClient, make_config: Maker) -> None:
    for name in ("status", "versions", "overview"):
        make_config(worker_id=name)
        assert api_client.get(f"{CONFIGS}/{name}").json()["worker_id"] == name
        assert api_client.get(f"{WORKERS}/{name}/status").json()["worker_id"] == name
    services.request_start("status", "test")
    spawn("status")
    assert api_client.get(f"{WORKERS}/status/status").json()["status"] == "starting"


@pytest.mark.parametrize("name", ["batch", "rollouts", "stats"])
def test_a_worker_may_not_have_the_name_of_an_address(api_client: APIClient, name: str) -> None:
    response = api_client.post(CONFIGS, {"worker_id": name}, format="json")
    assert errors_of(response, 400) == {"worker_id": "reserved"}
    assert name in detail_of(response)
    assert not WorkerConfig.objects.exists()
