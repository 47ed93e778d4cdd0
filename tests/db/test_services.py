"""Wishes and facts: what each service writes, and what it refuses."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone

from lifecycle import queries, services
from lifecycle.errors import LostRace, Rejected, UnknownWorker
from lifecycle.models import WorkerConfig, WorkerLog, WorkerRuntime
from lifecycle.services import facts
from lifecycle.task_failures import LONGEST_ERROR, FailedTasks, Failures
from lifecycle.types import (
    STOP_TIMEOUT_MS,
    Alive,
    Exit,
    Gone,
    Instance,
    ProcessRef,
    State,
    Wish,
)
from tests.threads import alongside
from tests.waiting import eventually

pytestmark = pytest.mark.django_db

VERSIONS = {"worker": "1", "python": "3", "celery": "5"}
KILLED = Exit(signal=9)


def crashed_after(
    instance: Instance, seconds: float, how: Exit = KILLED, random: float = 0.0
) -> None:
    now = timezone.now()
    services.exited(Gone(instance, how, now - timedelta(seconds=seconds), now), lambda: random)


def bring_up(config: WorkerConfig) -> Instance:
    """Take a worker to `running`, as master and worker would."""
    runtime = queries.runtime(config.worker_id)
    instance = Instance(config.worker_id, runtime.generation + 1)
    services.request_start(config.worker_id, "ann")
    services.claim_start(config.worker_id, instance.generation)
    services.spawned(Alive(instance, ProcessRef(4711, 1, "boot"), timezone.now()))
    services.ready(instance, VERSIONS)
    return instance


def test_a_new_config_has_a_runtime_and_a_log_row(make_config: Callable[..., WorkerConfig]) -> None:
    config = make_config(worker_id="w")
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.desired_state) == (State.STOPPED, Wish.STOPPED)
    assert WorkerLog.objects.get(config=config).event == "created"


def test_auto_start_is_a_wish_from_the_start(make_config: Callable[..., WorkerConfig]) -> None:
    make_config(worker_id="w", auto_start=True)
    make_config(worker_id="off", auto_start=True, enabled=False)
    assert queries.runtime("w").desired_state == Wish.RUNNING
    assert queries.runtime("off").desired_state == Wish.STOPPED


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"worker_id": "Not A Name"}, "worker_id"),
        ({"worker_id": "../../etc"}, "worker_id"),
        ({"deployment_type": "cloud"}, "deployment_type"),
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"max_memory_mb": 0}, "max_memory_mb"),
        ({"concurrency": 0}, "concurrency"),
        ({"cpu_cores": -1}, "cpu_cores"),
        ({"pool": "gevent"}, "pool"),
        ({"queues": ["a b"]}, "queues"),
    ],
)
def test_a_bad_config_names_the_field(
    make_config: Callable[..., WorkerConfig], fields: dict[str, object], named: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        make_config(**fields)
    assert named in caught.value.message_dict


def test_the_way_up_leaves_one_log_row_for_each_step(
    make_config: Callable[..., WorkerConfig],
) -> None:
    config = make_config(worker_id="w")
    bring_up(config)
    runtime = queries.runtime("w")
    assert runtime.state == State.RUNNING
    assert runtime.process_id == 4711
    moves = WorkerLog.objects.filter(event__in=["start", "ready"]).order_by("id")
    assert [(row.from_state, row.to_state) for row in moves] == [
        ("stopped", "starting"),
        ("starting", "running"),
    ]


def test_start_is_idempotent(make_config: Callable[..., WorkerConfig]) -> None:
    bring_up(make_config(worker_id="w"))
    assert services.request_start("w", "ann") == services.Wished("w", State.RUNNING, changed=False)


def test_a_start_takes_back_a_stop_that_has_not_begun(
    make_config: Callable[..., WorkerConfig],
) -> None:
    bring_up(make_config(worker_id="w"))
    services.request_stop("w", "ann")
    assert services.request_start("w", "ann") == services.Wished("w", State.RUNNING, changed=True)
    assert queries.runtime("w").desired_state == Wish.RUNNING


def test_rejections_say_why(make_config: Callable[..., WorkerConfig]) -> None:
    config = make_config(worker_id="off", enabled=False)
    with pytest.raises(Rejected, match="disabled"):
        services.request_start(config.worker_id, "ann")
    with pytest.raises(UnknownWorker):
        services.request_stop("nobody", "ann")
    running = make_config(worker_id="w")
    instance = bring_up(running)
    with pytest.raises(Rejected, match="running"):
        services.delete_config(running, "ann")
    services.request_stop("w", "ann")
    services.stopping(instance, "asked to stop")
    with pytest.raises(Rejected, match="stopping"):
        services.request_start("w", "ann")


def test_the_deployment_type_changes_once_nothing_runs(
    make_config: Callable[..., WorkerConfig],
) -> None:
    config = make_config(worker_id="w")
    old = bring_up(config)
    services.ready(succeed(old), VERSIONS)
    crashed_after(Instance("w", 2), 1)
    with pytest.raises(Rejected, match="old process"):
        services.update_config(config, {"deployment_type": "ssh"}, "ann")
    crashed_after(old, 1)
    changed = services.update_config(WorkerConfig.objects.get(), {"deployment_type": "ssh"}, "ann")
    assert changed.deployment_type == "ssh"


def test_an_exit_that_was_asked_for_is_a_stop(make_config: Callable[..., WorkerConfig]) -> None:
    instance = bring_up(make_config(worker_id="w"))
    services.request_stop("w", "ann")
    services.stopping(instance, "asked to stop")
    crashed_after(instance, 5, Exit(code=0))
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.process_id, runtime.exit_code) == (State.STOPPED, None, 0)
    assert runtime.error_count == 0


def test_an_exit_that_nobody_asked_for_is_a_crash_with_a_restart(
    make_config: Callable[..., WorkerConfig],
) -> None:
    instance = bring_up(make_config(worker_id="w", restart_delay_ms=4000))
    before = timezone.now()
    crashed_after(instance, 5)
    after = timezone.now()
    runtime = queries.runtime("w")
    assert runtime.state == State.CRASHED
    assert runtime.exit_signal == "SIGKILL"
    assert runtime.restart_at is not None
    delay, jitter = timedelta(seconds=4), timedelta(seconds=0.5)
    assert before + delay - jitter < runtime.restart_at < after + delay + jitter
    assert "killed by SIGKILL" in runtime.reason
    crashed_after(instance, 5)  # a repeated report changes nothing
    assert queries.runtime("w").error_count == 1


def test_after_the_last_attempt_the_worker_is_in_error_until_a_person_acts(
    make_config: Callable[..., WorkerConfig],
) -> None:
    config = make_config(worker_id="w", restart_delay_ms=0, max_restart_attempts=2)
    instance = bring_up(config)
    for _ in range(2):
        crashed_after(instance, 1)
        instance = Instance("w", instance.generation + 1)
        services.claim_start("w", instance.generation)
    crashed_after(instance, 1)
    runtime = queries.runtime("w")
    assert runtime.state == State.ERROR
    assert runtime.restart_count == 2
    assert "gave up" in runtime.reason
    services.request_start("w", "ann")
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.restart_attempts) == (State.STOPPED, 0)


def test_without_auto_restart_a_crash_stays_a_crash(
    make_config: Callable[..., WorkerConfig],
) -> None:
    instance = bring_up(make_config(worker_id="w", auto_restart=False))
    crashed_after(instance, 1)
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.restart_at) == (State.CRASHED, None)
    assert "automatic restart is off" in runtime.reason


def test_a_config_that_cannot_start_ends_in_error_with_the_reason(
    make_config: Callable[..., WorkerConfig],
) -> None:
    make_config(worker_id="w")
    services.request_start("w", "ann")
    services.claim_start("w", 1)
    services.spawn_refused(Instance("w", 1), "working_directory /nowhere does not exist")
    runtime = queries.runtime("w")
    assert runtime.state == State.ERROR
    assert "/nowhere" in runtime.reason


def test_one_that_was_lost_with_its_home_and_can_not_be_started_again_is_in_error(
    make_config: Callable[..., WorkerConfig],
) -> None:
    """It waited for its broker, so its pid is on record; nobody will ever tell how it ended."""
    make_config(worker_id="w")
    services.request_start("w", "ann")
    services.claim_start("w", 1)
    services.spawned(Alive(Instance("w", 1), ProcessRef(4711, 1, "boot"), timezone.now()))
    services.spawn_refused(Instance("w", 1), "working_directory /nowhere does not exist")
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.process_id, runtime.started_at) == (State.ERROR, None, None)


def test_an_old_generation_can_not_touch_the_row(make_config: Callable[..., WorkerConfig]) -> None:
    config = make_config(worker_id="w")
    old = bring_up(config)
    crashed_after(old, 1)
    services.claim_start("w", 2)
    before = WorkerRuntime.objects.values().get()
    with pytest.raises(LostRace):
        services.ready(old, VERSIONS)
    with pytest.raises(LostRace):
        crashed_after(old, 1)
    assert not services.heartbeat(old, active_tasks=9, tasks_done=9, reason="x")
    services.sampled([(old, 99.0, 99.0)])
    assert WorkerRuntime.objects.values().get() == before
    with pytest.raises(LostRace):
        services.claim_start("w", 2)


def test_a_restart_wishes_for_the_next_generation_once(
    make_config: Callable[..., WorkerConfig],
) -> None:
    bring_up(make_config(worker_id="w"))
    assert services.request_restart("w", "ann").changed
    assert not services.request_restart("w", "ann").changed
    assert queries.runtime("w").wanted_generation == 2


def succeed(instance: Instance) -> Instance:
    """Take a running worker through a restart up to its new process."""
    services.request_restart(instance.worker_id, "ann")
    successor = Instance(instance.worker_id, queries.runtime(instance.worker_id).wanted_generation)
    services.claim_succession(instance.worker_id, successor.generation)
    services.spawned(Alive(successor, ProcessRef(4712, 1, "boot"), timezone.now()))
    return successor


def test_a_successor_takes_over_when_it_is_ready_and_the_old_one_retires(
    make_config: Callable[..., WorkerConfig],
) -> None:
    """[L8] The worker is running all the time."""
    old = bring_up(make_config(worker_id="w"))
    new = succeed(old)
    between = queries.runtime("w")
    assert (between.state, between.process_id, between.generation) == (State.RUNNING, 4711, 1)
    services.ready(new, VERSIONS)
    after = queries.runtime("w")
    assert (after.state, after.process_id, after.generation) == (State.RUNNING, 4712, 2)
    assert (after.retiring_generation, after.retiring_process_id) == (1, 4711)
    assert not services.heartbeat(old, active_tasks=1, tasks_done=1, reason="")
    crashed_after(old, 5, Exit(code=0))
    done = queries.runtime("w")
    assert (done.state, done.retiring_generation, done.error_count) == (State.RUNNING, None, 0)
    assert done.restart_count == 1


def test_the_pid_of_a_successor_that_takes_over_meanwhile_is_written(
    make_config: Callable[..., WorkerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither the current one when that is tried first, nor the successor after that."""
    old = bring_up(make_config(worker_id="w"))
    new = succeed(old)

    class TakesOverBefore(str):
        def format(self, *_args: object, **words: object) -> str:
            if words["role"]:
                services.ready(new, VERSIONS)
            return super().format(**words)

    monkeypatch.setattr(facts, "SPAWNED", TakesOverBefore(facts.SPAWNED))
    services.spawned(Alive(new, ProcessRef(4713, 1, "boot"), timezone.now()))
    runtime = queries.runtime("w")
    assert (runtime.generation, runtime.process_id) == (2, 4713)


def test_a_successor_that_ends_calls_the_restart_off_and_the_old_one_goes_on(
    make_config: Callable[..., WorkerConfig],
) -> None:
    old = bring_up(make_config(worker_id="w"))
    new = succeed(old)
    crashed_after(new, 1, Exit(code=3))
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.generation, runtime.process_id) == (State.RUNNING, 1, 4711)
    assert runtime.wanted_generation == 1
    assert "restart called off: the new process ended: exit code 3" in runtime.reason
    assert services.request_restart("w", "ann").changed
    assert queries.runtime("w").wanted_generation == 3


def test_a_crash_of_the_old_one_while_its_successor_starts(
    make_config: Callable[..., WorkerConfig],
) -> None:
    old = bring_up(make_config(worker_id="w"))
    new = succeed(old)
    crashed_after(old, 1)
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.successor_generation) == (State.CRASHED, None)
    with pytest.raises(LostRace):
        services.ready(new, VERSIONS)


def test_a_config_change_that_needs_a_restart_makes_the_worker_outdated(
    make_config: Callable[..., WorkerConfig],
) -> None:
    config = make_config(worker_id="w")
    old = bring_up(config)
    services.update_config(config, {"restart_delay_ms": 1}, "ann")
    assert not queries.runtime("w").is_outdated
    services.update_config(config, {"concurrency": 3}, "ann")
    assert queries.runtime("w").is_outdated
    services.ready(succeed(old), VERSIONS)
    assert not queries.runtime("w").is_outdated


def test_disabling_a_config_wishes_its_worker_stopped(
    make_config: Callable[..., WorkerConfig],
) -> None:
    config = make_config(worker_id="w", auto_start=True)
    services.update_config(config, {"enabled": False}, "ann")
    assert queries.runtime("w").desired_state == Wish.STOPPED


def test_a_config_edit_that_is_out_of_date_is_refused(
    make_config: Callable[..., WorkerConfig],
) -> None:
    config = make_config(worker_id="w")
    stale = WorkerConfig.objects.get(pk=config.pk)
    services.update_config(config, {"name": "first"}, "ann")
    with pytest.raises(LostRace, match="out of date"):
        services.update_config(stale, {"name": "second"}, "ben")
    assert WorkerConfig.objects.get(pk=config.pk).name == "first"


def test_heartbeats_add_up(make_config: Callable[..., WorkerConfig]) -> None:
    instance = bring_up(make_config(worker_id="w"))
    for _ in range(2):
        services.heartbeat(instance, active_tasks=3, tasks_done=5, reason="")
    runtime = queries.runtime("w")
    assert (runtime.active_tasks, runtime.tasks_total) == (3, 10)


def test_failed_tasks_add_up_and_the_last_error_stays(
    make_config: Callable[..., WorkerConfig],
) -> None:
    """Each pool child of a prefork worker tells its own [L3]."""
    instance, failed = bring_up(make_config(worker_id="w")), FailedTasks()
    for error in ("first", "second", "a\0b\ud800" + "c" * 3000):
        failed.add(error, timezone.now())
        if error != "first":
            services.tasks_failed(instance, cast(Failures, failed.take()))
    runtime = queries.runtime("w")
    assert runtime.error_count == 3
    assert runtime.last_error.startswith("a\ufffdb\ufffdccc")
    assert len(runtime.last_error) == LONGEST_ERROR


def test_samples_of_many_workers_are_one_statement(
    make_config: Callable[..., WorkerConfig],
    django_assert_num_queries: Callable[[int], object],
) -> None:
    instances = [bring_up(make_config(worker_id=f"w{n}")) for n in range(5)]
    with django_assert_num_queries(1):  # type: ignore[attr-defined]
        services.sampled([(instance, 10.0, 20.5) for instance in instances])
    assert {runtime.memory_usage_mb for runtime in queries.runtimes()} == {20.5}


def test_assigned_accounts(make_config: Callable[..., WorkerConfig]) -> None:
    make_config(worker_id="a")
    make_config(worker_id="b")
    services.set_assigned_accounts({"a": 3})
    services.set_assigned_accounts({"b": 2})
    assert [runtime.assigned_accounts for runtime in queries.runtimes()] == [0, 2]


@pytest.mark.django_db(transaction=True)
def test_two_masters_claim_one_start_once(make_config: Callable[..., WorkerConfig]) -> None:
    """[L11] The row decides who spawns, whatever two masters believe."""
    make_config(worker_id="w")
    won: list[bool] = []
    barrier = threading.Barrier(2, timeout=30)

    def claim() -> None:
        barrier.wait()
        try:
            services.claim_start("w", 1)
            won.append(True)
        except LostRace:
            won.append(False)

    with alongside(claim, claim):
        pass
    assert sorted(won) == [False, True]


def test_overview_is_one_query(
    make_config: Callable[..., WorkerConfig],
    django_assert_num_queries: Callable[[int], object],
) -> None:
    bring_up(make_config(worker_id="a"))
    make_config(worker_id="b", max_accounts=5)
    with django_assert_num_queries(1):  # type: ignore[attr-defined]
        overview = queries.overview()
    assert (overview["total"], overview["running"], overview["stopped"]) == (2, 1, 1)
    assert overview["total_capacity"] == 15


def test_the_lifecycle_log_can_be_narrowed(make_config: Callable[..., WorkerConfig]) -> None:
    instance = bring_up(make_config(worker_id="w"))
    crashed_after(instance, 1)
    assert [row.level for row in queries.lifecycle_log("w", level="error")] == ["error"]
    assert queries.lifecycle_log("w", since=timezone.now()).count() == 0
    assert len(queries.lifecycle_log("w", limit=2)) == 2


def test_an_exit_and_the_restart_that_is_due_are_written_together(
    make_config: Callable[..., WorkerConfig],
) -> None:
    """[L6] Both steps are logged, and the row shows the claim."""
    instance = bring_up(make_config(worker_id="w", restart_delay_ms=0))
    now = timezone.now()
    gone = Gone(instance, KILLED, now - timedelta(seconds=90), now)
    claimed = services.exited(gone, lambda: 0.0, lambda runtime: runtime.last_generation + 1)
    assert claimed is not None
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.generation) == (State.STARTING, instance.generation + 1)
    assert (runtime.restart_count, runtime.error_count) == (1, 1)
    events = WorkerLog.objects.order_by("-id").values_list("event", "to_state")[:2]
    assert list(events) == [("start", "starting"), ("exited", "crashed")]


@pytest.mark.django_db(transaction=True)
def test_an_exit_is_decided_on_the_row_as_it_is_and_not_as_it_was_seen(
    make_config: Callable[..., WorkerConfig],
) -> None:
    """[L6] A person's stop came after the row was read: it is no crash."""
    instance = bring_up(make_config(worker_id="w", restart_delay_ms=0))
    seen = services.look("w")
    services.request_stop("w", "ann")
    services.stopping(instance, "asked to stop")
    now = timezone.now()
    gone = Gone(instance, KILLED, now - timedelta(seconds=90), now)
    assert services.exited(gone, lambda: 0.0, lambda _: None, seen) is None
    assert queries.runtime("w").state == State.STOPPED


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("times", "tries"), [(1, 2), (100, 4)])
def test_an_exit_is_decided_anew_when_somebody_else_writes_meanwhile(
    make_config: Callable[..., WorkerConfig], times: int, tries: int
) -> None:
    """[L6] No lock is held while it is decided, unless others write again and again. Nothing of
    theirs is lost, and the exit is written once."""
    instance = bring_up(make_config(worker_id="w", restart_delay_ms=0))
    writes = iter(range(1, times + 1))

    def starts_now(runtime: WorkerRuntime) -> int:
        seen.append(runtime.tasks_total)
        for number in writes:  # one each time it is decided
            WorkerRuntime.objects.filter(pk=runtime.pk).update(tasks_total=number)
            break
        return runtime.last_generation + 1

    seen: list[int] = []
    now = timezone.now()
    gone = Gone(instance, KILLED, now - timedelta(seconds=90), now)
    assert services.exited(gone, lambda: 0.0, starts_now)
    runtime = queries.runtime("w")
    assert (runtime.generation, runtime.error_count, runtime.restart_count) == (2, 1, 1)
    assert seen == list(range(tries))
    assert runtime.tasks_total == min(times, tries)
    assert WorkerLog.objects.filter(event="exited").count() == 1


def test_the_crash_of_one_whose_claim_the_database_lost_is_a_crash_of_its_own(
    make_config: Callable[..., WorkerConfig],
) -> None:
    """[L6, L10] It ended, too, before its claim was made anew: its number is used up."""
    first = bring_up(make_config(worker_id="w", restart_delay_ms=0))
    crashed_after(first, 90)
    crashed_after(Instance("w", 2), 0, Exit(code=3))
    runtime = queries.runtime("w")
    assert (runtime.state, runtime.last_generation) == (State.CRASHED, 2)
    assert (runtime.error_count, runtime.exit_code) == (2, 3)


def test_one_that_is_claimed_anew_runs_with_the_config_that_it_was_started_with(
    make_config: Callable[..., WorkerConfig],
) -> None:
    """[L8] A change since its start shows it as outdated."""
    config = make_config(worker_id="w", restart_delay_ms=0)
    crashed_after(bring_up(config), 90)
    services.update_config(config, {"log_max_mb": 3}, "ann")
    services.claim_start("w", 2, lives=True)
    services.spawned(Alive(Instance("w", 2), ProcessRef(1, 1, "boot"), timezone.now()))
    assert services.outdated_workers() == ["w"]


def test_an_exit_that_is_not_followed_by_a_start_claims_nothing(
    make_config: Callable[..., WorkerConfig],
) -> None:
    instance = bring_up(make_config(worker_id="w", restart_delay_ms=0))
    now = timezone.now()
    gone = Gone(instance, KILLED, now, now)
    assert services.exited(gone, lambda: 0.0, lambda _runtime: None) is None
    assert queries.runtime("w").state == State.CRASHED


def test_a_forced_stop_says_nothing_of_the_next_one(
    make_config: Callable[..., WorkerConfig],
) -> None:
    """[L13] Once forced, then started again: the shutdown of the system is a graceful one."""
    config = make_config()
    first = bring_up(config)
    services.request_stop(config.worker_id, "ann", graceful=False, timeout_ms=1000)
    assert services.stopping(first, "asked to stop") == (False, 1000)
    crashed_after(first, 1)
    second = bring_up(config)
    assert services.stopping(second, "the system shuts down") == (True, STOP_TIMEOUT_MS)


def test_a_restart_says_nothing_of_the_next_stop(make_config: Callable[..., WorkerConfig]) -> None:
    config = make_config()
    old = bring_up(config)
    services.request_restart(config.worker_id, "ann", timeout_ms=1000)
    services.claim_succession(config.worker_id, old.generation + 1)
    new = Instance(config.worker_id, old.generation + 1)
    services.spawned(Alive(new, ProcessRef(4712, 1, "boot"), timezone.now()))
    services.ready(new, VERSIONS)
    assert queries.runtime(config.worker_id).stop_timeout_ms == 1000  # the old one still retires
    crashed_after(old, 1)
    assert services.stopping(new, "the system shuts down") == (True, STOP_TIMEOUT_MS)


@pytest.mark.parametrize("change", [{"auto_start": True}, {"enabled": True}])
def test_one_that_is_to_start_by_itself_from_now_on_starts(
    make_config: Callable[..., WorkerConfig], change: dict[str, bool]
) -> None:
    before = {"auto_start": True, "enabled": True} | dict.fromkeys(change, False)
    config = make_config(**before)
    assert queries.runtime(config.worker_id).desired_state == Wish.STOPPED
    services.update_config(config, {"description": "the same"}, "ann")
    assert queries.runtime(config.worker_id).desired_state == Wish.STOPPED
    services.update_config(config, change, "ann")
    assert queries.runtime(config.worker_id).desired_state == Wish.RUNNING


def test_what_its_keeper_rotates_by_takes_a_restart(
    make_config: Callable[..., WorkerConfig],
) -> None:
    config = make_config()
    bring_up(config)
    services.update_config(config, {"log_max_mb": 3}, "ann")
    assert services.outdated_workers() == [config.worker_id]


def test_a_process_that_never_beat_is_looked_at(make_config: Callable[..., WorkerConfig]) -> None:
    config = make_config()
    services.request_start(config.worker_id, "ann")
    services.claim_start(config.worker_id, 1)
    assert queries.vitals() == []  # nothing runs yet
    services.spawned(Alive(Instance(config.worker_id, 1), ProcessRef(1, 1, "boot"), timezone.now()))
    (found,) = queries.vitals()
    assert found.heartbeat_age_s is None


@pytest.mark.django_db(transaction=True)
def test_who_waits_for_a_process_takes_no_connection_from_others(
    make_config: Callable[..., WorkerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More starts than the pool has connections, and no master: a request has its turn at once."""
    make_config(worker_id="w")
    most = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
    polls: Counter[int] = Counter()
    look = queries.runtime

    def counted(worker_id: str) -> WorkerRuntime:
        found = look(worker_id)
        polls[threading.get_ident()] += 1
        return found

    monkeypatch.setattr(queries, "runtime", counted)
    connection.close()
    starts = [lambda: services.wait_for_process("w", 60.0)] * (most + 2)
    with alongside(*starts, end=lambda: WorkerRuntime.objects.update(state="error")):
        eventually(lambda: len(polls) >= most)
        connection.ensure_connection()
        eventually(lambda: len(polls) == most + 2)
