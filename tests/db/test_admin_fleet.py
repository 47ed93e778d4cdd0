"""The fleet in the admin: who sees what, what a button calls, how many queries it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from lifecycle import services
from lifecycle.backends.base import LogStart
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.types import Instance
from tests.db.api_helpers import AwayLog, PrintedLog, run

pytestmark = pytest.mark.django_db

FLEET = reverse("admin:lifecycle_workerruntime_changelist")
CONFIGS = reverse("admin:lifecycle_workerconfig_changelist")
ADD = reverse("admin:lifecycle_workerconfig_add")
LIFECYCLE_LOG = reverse("admin:lifecycle_workerlog_changelist")
MakeConfig = Callable[..., WorkerConfig]


def wish(config: WorkerConfig, verb: str) -> str:
    return reverse("admin:lifecycle_worker_wish", args=[config.pk, verb])


def page(config: WorkerConfig) -> str:
    return reverse("admin:lifecycle_workerruntime_change", args=[config.pk])


def filled(**changed: object) -> dict[str, object]:
    """What a browser posts for a new config."""
    return {
        "worker_id": "worker-9",
        "deployment_type": "local",
        "host": "localhost",
        "max_accounts": 10,
        "max_memory_mb": 2048,
        "cpu_cores": 2,
        "pool": "threads",
        "concurrency": 10,
        "queues": "default",
        "env_variables": "{}",
        "deployment_options": "{}",
        "restart_delay_ms": 5000,
        "max_restart_attempts": 3,
        "restart_mode": "always",
        "max_restart_delay_ms": 300_000,
        "stable_after_s": 60,
        "restart_window_s": 3600,
        "heartbeat_timeout_s": 30,
        "log_max_mb": 10,
        "log_files": 5,
        "enabled": "on",
        **changed,
    }


def test_every_role_sees_the_fleet(
    client: Client, viewer: User, operator: User, administrator: User, make_config: MakeConfig
) -> None:
    config = make_config(worker_id="seen")
    for user in (viewer, operator, administrator):
        client.force_login(user)
        for address in (FLEET, CONFIGS, page(config), reverse("admin:index")):
            answer = client.get(address)
            assert answer.status_code == 200
            assert "seen" in answer.content.decode()


def test_only_those_who_may_operate_get_buttons(
    client: Client, viewer: User, operator: User, make_config: MakeConfig
) -> None:
    config = make_config()
    for user, given in ((viewer, False), (operator, True)):
        client.force_login(user)
        assert (wish(config, "start") in client.get(FLEET).content.decode()) is given


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "force-stop"])
def test_a_viewer_may_not_operate(
    client: Client, viewer: User, make_config: MakeConfig, verb: str
) -> None:
    client.force_login(viewer)
    assert client.post(wish(make_config(), verb)).status_code == 403


def test_a_button_wishes_and_answers_with_a_toast(
    client: Client, operator: User, make_config: MakeConfig
) -> None:
    config = make_config(worker_id="w")
    client.force_login(operator)
    answer = client.post(wish(config, "start"), headers={"HX-Request": "true"})
    assert answer.status_code == 204
    said = json.loads(answer["HX-Trigger"])
    assert said["toast"] == {"level": "success", "text": "w: asked to start."}
    assert "refresh" in said
    assert WorkerRuntime.objects.get(config=config).desired_state == "running"
    log = config.logs.get(event="wish")
    assert log.actor == "operator"


def test_without_htmx_a_button_leads_back_to_the_worker(
    client: Client, operator: User, make_config: MakeConfig
) -> None:
    config = make_config()
    client.force_login(operator)
    answer = client.post(wish(config, "start"), follow=True)
    assert answer.redirect_chain == [(page(config), 302)]
    assert "asked to start" in answer.content.decode()


def test_a_refused_wish_says_why(client: Client, operator: User, make_config: MakeConfig) -> None:
    config = make_config(enabled=False)
    client.force_login(operator)
    answer = client.post(wish(config, "start"), headers={"HX-Request": "true"})
    toast = json.loads(answer["HX-Trigger"])["toast"]
    assert toast["level"] == "error"
    assert "disabled" in toast["text"]


def test_a_wish_is_no_get(client: Client, operator: User, make_config: MakeConfig) -> None:
    client.force_login(operator)
    assert client.get(wish(make_config(), "start")).status_code == 405


def test_bulk_actions_wish_for_all_and_name_the_refused(
    client: Client, operator: User, make_config: MakeConfig
) -> None:
    good, bad = make_config(worker_id="good"), make_config(worker_id="bad", enabled=False)
    client.force_login(operator)
    answer = client.post(
        FLEET, {"action": "start_selected", "_selected_action": [good.pk, bad.pk]}, follow=True
    )
    text = answer.content.decode()
    assert "1 worker: asked to start." in text
    assert "bad: bad is disabled" in text
    assert WorkerRuntime.objects.get(config=good).desired_state == "running"


def test_a_force_stop_is_asked_for_twice(
    client: Client, operator: User, make_config: MakeConfig
) -> None:
    config = make_config(worker_id="w", auto_start=True)
    services.claim_start("w", 1)
    client.force_login(operator)
    chosen = {"action": "force_stop_selected", "_selected_action": [config.pk]}
    asked = client.post(FLEET, chosen)
    assert "Force these workers to stop?" in asked.content.decode()
    assert WorkerRuntime.objects.get(config=config).desired_state == "running"
    client.post(FLEET, {**chosen, "confirmed": "1"})
    runtime = WorkerRuntime.objects.get(config=config)
    assert (runtime.desired_state, runtime.stop_graceful) == ("stopped", False)


@pytest.mark.parametrize("action", ["force_stop_selected", "stop_selected"])
def test_a_worker_that_has_left_the_filter_since_it_was_chosen_is_acted_on(
    client: Client, operator: User, make_config: MakeConfig, action: str
) -> None:
    """A flapping one is started by its policy while somebody reads the question."""
    config = make_config(worker_id="w", auto_start=True)
    WorkerRuntime.objects.update(state="crashed")
    client.force_login(operator)
    chosen = {"action": action, "_selected_action": [config.pk]}
    crashed = f"{FLEET}?state__exact=crashed"
    assert "w" in [str(row.config) for row in client.get(crashed).context["cl"].result_list]
    WorkerRuntime.objects.update(state="starting")
    answer = client.post(crashed, {**chosen, "confirmed": "1"}, follow=True)
    assert "1 worker: asked to stop" in answer.content.decode()
    assert answer.redirect_chain == [(crashed, 302)]
    assert WorkerRuntime.objects.get(config=config).desired_state == "stopped"


def test_all_workers_of_a_filter_are_those_that_it_shows(
    client: Client, operator: User, make_config: MakeConfig
) -> None:
    ill, well = make_config(auto_start=True), make_config(auto_start=True)
    WorkerRuntime.objects.filter(config=ill).update(state="crashed")
    client.force_login(operator)
    chosen = {"action": "stop_selected", "_selected_action": [ill.pk], "select_across": "1"}
    client.post(f"{FLEET}?state__exact=crashed", chosen)
    wanted = WorkerRuntime.objects.values_list("config_id", "desired_state")
    assert dict(wanted) == {ill.pk: "stopped", well.pk: "running"}


def test_a_large_fleet_is_stopped_by_one_question(
    client: Client, operator: User, make_config: MakeConfig
) -> None:
    config = make_config(auto_start=True)
    client.force_login(operator)
    ids = [config.pk + more for more in range(1_200)]
    chosen = {"action": "force_stop_selected", "_selected_action": ids, "confirmed": "1"}
    assert client.post(FLEET, chosen).status_code == 302
    assert WorkerRuntime.objects.get(config=config).desired_state == "stopped"


def test_the_list_answers_a_poll_with_rows_alone_and_keeps_its_filters(
    client: Client, viewer: User, make_config: MakeConfig
) -> None:
    make_config(worker_id="stays")
    make_config(worker_id="up", auto_start=True)
    services.claim_start("up", 1)
    client.force_login(viewer)
    answer = client.get(FLEET, {"state": "starting"}, headers={"HX-Target": "live-rows"})
    text = answer.content.decode()
    assert "<html" not in text
    assert "up" in text
    assert "stays" not in text


def test_queries_do_not_grow_with_the_fleet(
    client: Client,
    operator: User,
    make_config: MakeConfig,
    django_assert_num_queries: Any,
    django_assert_max_num_queries: Any,
) -> None:
    client.force_login(operator)
    make_config()
    with django_assert_max_num_queries(12) as few:
        client.get(FLEET, headers={"HX-Target": "live-rows"})
    for _ in range(8):
        make_config()
    with django_assert_num_queries(len(few.captured_queries)):
        client.get(FLEET, headers={"HX-Target": "live-rows"})


def test_the_page_brings_a_live_log(client: Client, viewer: User, make_config: MakeConfig) -> None:
    config = make_config(worker_id="w")
    client.force_login(viewer)
    log = reverse("admin:lifecycle_worker_log", args=[config.pk])
    for address in (page(config), log):
        text = client.get(address, {"stream": "stderr"}).content.decode()
        assert 'data-follow-url="/api/v1/workers/w/logs/stream"' in text
        assert 'data-stream="stderr"' in text
        assert "console/log_viewer.js" in text
        assert f"{log}?stream=stderr&amp;download" in text
    assert 'data-stream="stdout"' in client.get(log, {"stream": "nonsense"}).content.decode()


def test_the_log_can_be_downloaded(
    client: Client, viewer: User, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = PrintedLog("<one>", "token=hunter2", "mine: s3cret-word")
    monkeypatch.setattr("lifecycle.logs.reading.backend_for", lambda _config: printed)
    config = make_config(worker_id="w", env_variables={"MY_TOKEN": "s3cret-word"})
    client.force_login(viewer)
    log = reverse("admin:lifecycle_worker_log", args=[config.pk])
    answer = client.get(log, {"stream": "stderr", "download": ""})
    assert answer.content.decode() == "<one>\ntoken=********\nmine: ********\n"
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="w-stderr.log"'
    assert printed.asked == [("w", "stderr", LogStart(tail=10_000))]


def test_a_log_that_can_not_be_read_is_said_in_words(
    client: Client, viewer: User, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifecycle.logs.reading.backend_for", lambda _config: AwayLog())
    client.force_login(viewer)
    log = reverse("admin:lifecycle_worker_log", args=[make_config().pk])
    answer = client.get(log, {"download": ""})
    assert answer.status_code == 503
    assert "the agent does not answer" in answer.content.decode()


def test_an_unknown_worker_is_not_found(client: Client, viewer: User) -> None:
    client.force_login(viewer)
    for pk in ("999999", "nonsense"):
        assert client.get(f"{FLEET}{pk}/change/").status_code == 404


def test_an_admin_makes_and_changes_a_config_through_the_service(
    client: Client, administrator: User
) -> None:
    client.force_login(administrator)
    assert client.post(ADD, filled(env_variables='{"TZ": "UTC"}')).status_code == 302
    config = WorkerConfig.objects.get(worker_id="worker-9")
    assert config.env_variables == {"TZ": "UTC"}
    assert config.runtime.state == "stopped"
    change = reverse("admin:lifecycle_workerconfig_change", args=[config.pk])
    assert client.post(change, filled(max_accounts=20)).status_code == 302
    config.refresh_from_db()
    assert (config.max_accounts, config.version) == (20, 2)


def test_an_old_version_can_be_read_and_restored(client: Client, administrator: User) -> None:
    client.force_login(administrator)
    client.post(ADD, filled(max_accounts=7))
    config = WorkerConfig.objects.get(worker_id="worker-9")
    client.post(
        reverse("admin:lifecycle_workerconfig_change", args=[config.pk]), filled(max_accounts=20)
    )
    history = reverse("admin:lifecycle_workerconfig_history", args=[config.pk])
    assert client.get(history).status_code == 200
    first = config.history.earliest()
    old = reverse("admin:lifecycle_workerconfig_simple_history", args=[config.pk, first.pk])
    assert 'value="7"' in client.get(old).content.decode()
    assert client.post(old, filled(max_accounts=7)).status_code == 302
    config.refresh_from_db()
    assert (config.max_accounts, config.version) == (7, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[1]", "Must be a JSON object of strings"),
        ('{"1X": "a"}', "&#x27;1X&#x27; is no name"),
        ('{"X": 1}', "The value of &#x27;X&#x27; must be a string"),
        ("{", "Enter a valid JSON"),
    ],
)
def test_bad_environment_variables_are_named(
    client: Client, administrator: User, given: str, said: str
) -> None:
    client.force_login(administrator)
    answer = client.post(ADD, filled(env_variables=given))
    assert answer.status_code == 200
    assert said in answer.content.decode()
    assert not WorkerConfig.objects.exists()


def test_what_the_service_refuses_stands_in_the_form_with_the_input_kept(
    client: Client, administrator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.core.exceptions import ValidationError

    def refuse(_fields: object, _actor: str) -> WorkerConfig:
        raise ValidationError({"host": ["that host is full"]})

    monkeypatch.setattr(services, "create_config", refuse)
    client.force_login(administrator)
    text = client.post(ADD, filled(name="kept")).content.decode()
    assert "that host is full" in text
    assert 'value="kept"' in text


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_only_admins_edit_configs(
    client: Client, make_user: Callable[..., User], make_config: MakeConfig, role: str
) -> None:
    config = make_config()
    client.force_login(make_user("somebody", role))
    change = reverse("admin:lifecycle_workerconfig_change", args=[config.pk])
    delete = reverse("admin:lifecycle_workerconfig_delete", args=[config.pk])
    assert client.get(change).status_code == 200  # to read
    assert client.post(ADD, filled()).status_code == 403
    assert client.post(change, filled()).status_code == 403
    assert client.post(delete, {"post": "yes"}).status_code == 403


def test_a_running_worker_is_not_deleted_and_the_page_says_why(
    client: Client, administrator: User, make_config: MakeConfig
) -> None:
    config = make_config(worker_id="busy", auto_start=True)
    services.claim_start("busy", 1)
    services.ready(Instance("busy", 1), {"worker": "1", "python": "3", "celery": "5"})
    client.force_login(administrator)
    delete = reverse("admin:lifecycle_workerconfig_delete", args=[config.pk])
    answer = client.post(delete, {"post": "yes"}, follow=True)
    assert "busy" in answer.content.decode()
    assert WorkerConfig.objects.filter(pk=config.pk).exists()


def test_a_stopped_one_is_deleted(
    client: Client, administrator: User, make_config: MakeConfig
) -> None:
    config = make_config()
    client.force_login(administrator)
    delete = reverse("admin:lifecycle_workerconfig_delete", args=[config.pk])
    assert client.get(delete).status_code == 200
    assert client.post(delete, {"post": "yes"}).status_code == 302
    assert not WorkerConfig.objects.exists()


def test_runtime_and_log_are_neither_added_nor_deleted(
    client: Client, admin_user: User, make_config: MakeConfig
) -> None:
    config = make_config()
    client.force_login(admin_user)
    for model in ("workerruntime", "workerlog"):
        assert client.get(reverse(f"admin:lifecycle_{model}_add")).status_code == 403
    gone = reverse("admin:lifecycle_workerruntime_delete", args=[config.pk])
    assert client.post(gone, {"post": "yes"}).status_code == 403


def test_a_chinese_page_says_in_chinese_what_is_stored_in_english(
    client: Client, viewer: User, make_config: MakeConfig
) -> None:
    """Reason, checks, last exit and error, lifecycle log [C6]; rows and API stay English."""
    config = make_config(worker_id="w", max_memory_mb=2048)
    run("w")
    services.condemned(Instance("w", 1), "no heartbeat for 31 s")
    killed = "killed by SIGKILL (no heartbeat for 31 s)"
    WorkerRuntime.objects.update(
        reason="waiting for broker", memory_usage_mb=2100, exit_text=killed, last_error=killed
    )
    client.force_login(viewer)
    pages = (page(config), FLEET, reverse("admin:index"), LIFECYCLE_LOG)

    def shown(language: str) -> str:
        client.cookies["django_language"] = language
        return "".join(client.get(address).content.decode() for address in pages)

    english, chinese = shown("en"), shown("zh-hans")
    said = ["waiting for broker", "the limit is 2048", "killed by SIGKILL", "no heartbeat for"]
    for text in [*said, "to be replaced", "asked to start", "memory:"]:
        assert text in english
        assert text not in chinese, text
    assert "正在等待消息代理" in chinese
    status = client.get("/api/v1/workers/w/status", headers={"Accept-Language": "zh-hans"}).json()
    assert status["reason"] == "waiting for broker"


def test_errors_of_the_lifecycle_are_said_in_chinese(client: Client, viewer: User) -> None:
    client.force_login(viewer)
    chinese = {"Accept-Language": "zh-hans"}
    refused = client.get("/api/v1/workers/nobody/status", headers=chinese)
    assert refused.status_code == 404
    assert refused.json()["errors"][0]["detail"] == "没有工作进程“nobody”"
