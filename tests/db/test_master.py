"""The master over a real agent: wishes come true, crashes are restarted, masters come and go."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from django.db import DataError, IntegrityError, connection
from django.utils import timezone

from lifecycle import backends, leadership, queries, reconcile, services
from lifecycle.agent import process
from lifecycle.backends.base import Snapshot
from lifecycle.backends.local import LocalBackend
from lifecycle.duty_runner import DutyRunner
from lifecycle.errors import Rejected
from lifecycle.management.commands.master import is_open
from lifecycle.master import BrokerAnswers, Leave, Master, Notified, Observed, ShutDown
from lifecycle.master.agenda import Agenda
from lifecycle.master.sight import Sight
from lifecycle.master.steps import Steps
from lifecycle.models import WorkerConfig, WorkerLog, WorkerRuntime
from lifecycle.types import DeploymentType, Exit, Gone, Instance, State
from tests.host import Host, eventually, running_host
from tests.threads import alongside

pytestmark = pytest.mark.django_db(transaction=True)

VERSIONS = {"worker": "1", "python": "3", "celery": "5"}
MakeConfig = Callable[..., WorkerConfig]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with running_host() as made:
        mine = {DeploymentType.LOCAL: LocalBackend(made.socket)}
        monkeypatch.setattr(backends, "backends", lambda: mine)
        yield made


@contextmanager
def leading(*runners: DutyRunner, broker_answers: bool = True) -> Iterator[Master]:
    """A master that decides, on a thread, until the block ends; `runners` of duties beside it."""
    master = Master(backends.backends(), broker_answers=broker_answers)
    channels = {services.CHANNEL, *(c for runner in runners for c in runner.duty.channels)}
    lead = leadership.acquire(database_url(), sorted(channels))

    def listen() -> None:
        for channel, payload in lead.notifications():
            if channel == services.CHANNEL:
                master.items.put(Notified(payload))
            for runner in runners:
                runner.notified(channel)

    def end() -> None:
        for runner in runners:
            runner.end()
        master.items.put(Leave())

    threading.Thread(target=listen, daemon=True).start()  # ends with the connection
    for runner in runners:
        runner.start()
    try:
        with alongside(master.run, end=end):
            yield master
    finally:
        lead.give_up()


def database_url() -> str:
    """libpq parameters of the tests' own database."""
    wanted = connection.settings_dict
    return f"host={wanted['HOST']} dbname={wanted['NAME']} user={wanted['USER']}"


def runtime_when(
    worker_id: str, is_so: Callable[[WorkerRuntime], bool], what: str
) -> WorkerRuntime:
    def look() -> WorkerRuntime | None:
        found = queries.runtime(worker_id)
        return found if is_so(found) else None

    return eventually(look, f"{worker_id}: {what}")


def with_process(worker_id: str, generation: int = 1) -> WorkerRuntime:
    return runtime_when(
        worker_id,
        lambda r: r.generation >= generation and r.process_id is not None,
        f"has a process of generation {generation}",
    )


def in_state(worker_id: str, state: State) -> WorkerRuntime:
    return runtime_when(worker_id, lambda r: r.state == state, state)


def test_an_auto_start_worker_starts_and_a_wish_stops_it(
    host: Host, make_config: MakeConfig
) -> None:
    make_config(worker_id="w", auto_start=True, command_args=["lines=1"])
    with leading():
        started = with_process("w")
        assert host.snapshot().alive[0].process.pid == started.process_id
        services.request_stop("w", "ann", timeout_ms=5000)
        in_state("w", State.STOPPED)
        assert host.snapshot().alive == ()


def test_a_wish_that_comes_while_a_master_leads_is_seen_at_once(
    host: Host, make_config: MakeConfig
) -> None:
    make_config(worker_id="w")
    with leading():
        services.request_start("w", "ann")
        assert services.wait_for_process("w").process_id is not None


def test_a_worker_without_a_backend_does_not_depose_the_master(
    host: Host, make_config: MakeConfig
) -> None:
    """Somebody reached around the service that refuses it; it is condemned for its silence."""
    long_ago = timezone.now() - timedelta(hours=1)
    config = make_config(worker_id="lost")
    services.claim_start("lost", 1)
    WorkerRuntime.objects.update(started_at=long_ago, last_heartbeat_at=long_ago, state="running")
    WorkerConfig.objects.filter(pk=config.pk).update(deployment_type="docker")
    master = Master(backends.backends())
    master.checkup._doctor.watching_since -= 3600
    master.checkup.due_at = timezone.now()
    master._look_after()
    assert queries.runtime("lost").condemned.startswith("no heartbeat")
    assert [worker_id for _at, worker_id in master.agenda._deadlines] == ["lost"]


def test_a_killed_worker_comes_back_as_the_next_generation(
    host: Host, make_config: MakeConfig
) -> None:
    """[L6]"""
    make_config(worker_id="w", auto_start=True, restart_delay_ms=0)
    with leading():
        first = with_process("w")
        assert first.process_id is not None
        os.kill(first.process_id, signal.SIGKILL)
        second = with_process("w", generation=2)
        assert second.process_id != first.process_id
        assert second.restart_count == 1
    crash = WorkerLog.objects.get(event="exited")
    assert (crash.to_state, crash.message) == ("crashed", "crashed: killed by SIGKILL")


def test_a_worker_that_always_crashes_ends_in_error(host: Host, make_config: MakeConfig) -> None:
    make_config(
        worker_id="w",
        auto_start=True,
        command_args=["exit=7"],
        restart_delay_ms=0,
        max_restart_attempts=3,
    )
    with leading():
        ended = in_state("w", State.ERROR)
    assert ended.restart_count == 3
    assert ended.exit_code == 7
    assert "exit code 7" in ended.reason


def test_a_config_that_cannot_start_is_in_error_with_the_reason(
    host: Host, make_config: MakeConfig
) -> None:
    make_config(worker_id="w", auto_start=True, working_directory="/nowhere")
    with leading():
        ended = in_state("w", State.ERROR)
    assert ended.reason == "working_directory /nowhere does not exist or is not a folder"


def test_a_start_that_cannot_be_done_says_why_and_is_done_once_it_can(
    host: Host, make_config: MakeConfig
) -> None:
    """[L6] A process that nobody knows holds the worker's lock."""
    make_config(worker_id="w", auto_start=True)
    folder = host.home / "run" / "workers" / "w"
    folder.mkdir(parents=True)
    with (folder / "lock.0").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with leading() as master:
            waits = runtime_when("w", lambda r: "next try in" in r.reason, "says why")
            assert waits.state == State.STARTING
            assert "a process of w still holds its lock" in waits.reason
            assert master.sight.troubles["w"].attempts >= 1
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert with_process("w").generation == 1
            eventually(lambda: not master.sight.troubles, "no trouble any more")


def test_a_start_that_cannot_be_done_can_be_taken_back(host: Host, make_config: MakeConfig) -> None:
    """[L6] A stop is no crash, also where there are no restarts left: it asks no policy."""
    make_config(worker_id="w", auto_start=True, max_restart_attempts=0)
    folder = host.home / "run" / "workers" / "w"
    folder.mkdir(parents=True)
    with (folder / "lock.0").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with leading():
            runtime_when("w", lambda r: "next try in" in r.reason, "says why")
            services.request_stop("w", "ann")
            ended = runtime_when("w", lambda r: r.state in ("stopped", "error"), "ends")
    assert (ended.state, ended.error_count, ended.last_error) == (State.STOPPED, 0, "")
    assert not WorkerLog.objects.filter(level="error").exists()


def test_what_can_never_be_started_is_given_up_with_its_cause(
    host: Host, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "SPAWN_PATIENCE", timedelta(0))
    make_config(worker_id="w", auto_start=True)
    folder = host.home / "run" / "workers" / "w"
    folder.mkdir(parents=True)
    with (folder / "lock.0").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with leading():
            ended = in_state("w", State.ERROR)
    assert ended.reason.startswith("could not be started for 0 s: a process of w still holds")


@pytest.mark.parametrize("refused", [IntegrityError("no"), DataError("no")])
def test_a_row_that_the_database_refuses_does_not_keep_others_from_being_looked_after(
    host: Host, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, refused: Exception
) -> None:
    """[L11] The database answers: that is no reason to give up the lead."""
    claim, exited = services.claim_start, services.exited

    def refusing_claim(worker_id: str, generation: int, *, lives: bool = False) -> WorkerConfig:
        if worker_id == "a-bad":
            raise refused
        return claim(worker_id, generation, lives=lives)

    def refusing_exit(gone: Gone, *arguments: Any) -> WorkerConfig | None:
        if gone.instance == Instance("b-ends", 1):
            raise refused
        return exited(gone, *arguments)

    monkeypatch.setattr(services, "claim_start", refusing_claim)
    for name in ("a-bad", "b-ends", "c-good"):
        make_config(worker_id=name, auto_start=True, restart_delay_ms=0)
    with leading() as master:
        ends, good = with_process("b-ends"), with_process("c-good")
        monkeypatch.setattr(services, "exited", refusing_exit)
        for pid in (ends.process_id, good.process_id):
            assert pid
            os.kill(pid, signal.SIGKILL)
        with_process("c-good", generation=2)
        kept = [gone.instance for gone in host.snapshot().gone]
        assert kept == [Instance("b-ends", 1)]  # until it is written down
        monkeypatch.setattr(services, "exited", exited)
        monkeypatch.setattr(services, "claim_start", claim)
        with_process("a-bad")
        with_process("b-ends", generation=2)
        assert not master.deposed


def test_what_does_not_run_is_not_ended_again_and_again(
    host: Host, make_config: MakeConfig
) -> None:
    """That it lives was told after its end, or never was true: the worker itself can start."""
    make_config(worker_id="w")
    with leading() as master:
        eventually(lambda: master.sight.reachable, "the agent answers")
        master.sight.lives(Instance("w", 7))
        services.request_start("w", "ann")
        assert with_process("w").generation == 1


def test_new_code_makes_running_workers_outdated(host: Host, make_config: MakeConfig) -> None:
    """[L8]"""
    make_config(worker_id="w", auto_start=True)
    with leading():
        assert not with_process("w").is_outdated
        (host.home / "code").write_text("new")
        host.backend.agent.call("reload")
        runtime_when("w", lambda r: r.is_outdated, "is outdated")
        assert services.outdated_workers() == ["w"]
        services.ready(Instance("w", 1), VERSIONS)
        services.request_restart("w", "ann")
        runtime_when("w", lambda r: r.successor_process_id is not None, "has a successor")
        services.ready(Instance("w", 2), VERSIONS)
        runtime_when("w", lambda r: not r.is_outdated, "is up to date")


def test_a_graceful_restart_replaces_before_it_retires(host: Host, make_config: MakeConfig) -> None:
    """[L8] Two processes side by side until the new one is ready; then the old one ends."""
    make_config(worker_id="w", auto_start=True)
    with leading():
        first = with_process("w")
        services.ready(Instance("w", 1), VERSIONS)
        services.request_restart("w", "ann")
        runtime_when("w", lambda r: r.successor_process_id is not None, "has a successor")
        assert len(host.snapshot().alive) == 2
        services.ready(Instance("w", 2), VERSIONS)
        done = runtime_when("w", lambda r: r.retiring_generation is None, "the old one has retired")
        assert (done.state, done.generation) == (State.RUNNING, 2)
        assert [alive.process.pid for alive in host.snapshot().alive] == [done.process_id]
        assert done.process_id != first.process_id
    assert not WorkerLog.objects.filter(to_state__in=["stopping", "crashed"]).exists()


def test_a_restart_whose_new_process_fails_leaves_the_old_one_alone(
    host: Host, make_config: MakeConfig
) -> None:
    config = make_config(worker_id="w", auto_start=True)
    with leading():
        first = with_process("w")
        services.ready(Instance("w", 1), VERSIONS)
        services.update_config(config, {"command_args": ["exit=4"]}, "ann")
        services.request_restart("w", "ann")
        after = runtime_when("w", lambda r: "called off" in r.reason, "the restart is called off")
        assert (after.state, after.process_id) == (State.RUNNING, first.process_id)
        assert "exit code 4" in after.last_error
    assert [alive.process.pid for alive in host.snapshot().alive] == [first.process_id]


def test_a_forced_restart_ends_the_old_process_first(host: Host, make_config: MakeConfig) -> None:
    make_config(worker_id="w", auto_start=True)
    with leading():
        with_process("w")
        services.ready(Instance("w", 1), VERSIONS)
        services.request_restart("w", "ann", graceful=False)
        assert with_process("w", generation=2).restart_count == 0
        assert len(host.snapshot().alive) == 1


def test_a_condemned_worker_that_does_not_end_can_be_forced(
    host: Host, make_config: MakeConfig
) -> None:
    """[L7] It drains, for a minute; a person has it stopped, and then can't wait."""
    make_config(worker_id="w", auto_start=True, command_args=["lines=1", "deaf"])
    with leading():
        with_process("w")
        services.condemned(Instance("w", 1), "memory 900 MB, over its limit")
        services.request_stop("w", "ann")
        in_state("w", State.STOPPING)
        services.request_stop("w", "ann", graceful=False)
        assert in_state("w", State.STOPPED).exit_text == "killed by SIGKILL (as it was asked to)"


def test_a_silent_worker_is_killed_once_its_agent_is_back(
    host: Host, make_config: MakeConfig
) -> None:
    """[L9] It finishes nothing any more: there is nothing to wait for."""
    make_config(worker_id="w", auto_start=True, auto_restart=False, command_args=["deaf"])
    with leading() as master:
        with_process("w")
        services.ready(Instance("w", 1), VERSIONS)
        host.kill_agent()
        eventually(lambda: not master.sight.reachable, "the agent is missed")
        WorkerRuntime.objects.update(last_heartbeat_at=timezone.now() - timedelta(hours=1))
        master.checkup._doctor.watching_since -= 3600
        master.checkup.due_at = timezone.now()
        services.notify("w")
        runtime_when("w", lambda r: bool(r.condemned), "is condemned")
        eventually(lambda: Instance("w", 1) in master.steps.hung, "and can't be ended")
        host.start_agent()
        assert in_state("w", State.CRASHED).exit_signal == "SIGKILL"
        assert not master.steps.hung


def test_a_new_master_takes_over_what_runs(host: Host, make_config: MakeConfig) -> None:
    """[L10] Nothing is started twice, and what ended meanwhile is known with its exit."""
    for name in ("stays", "dies"):
        make_config(worker_id=name, auto_start=True, auto_restart=False)
    with leading():
        stays, dies = with_process("stays"), with_process("dies")
    assert dies.process_id is not None
    os.kill(dies.process_id, signal.SIGSEGV)
    host.gone(Instance("dies", 1))
    with leading():
        ended = in_state("dies", State.CRASHED)
    assert ended.exit_signal == "SIGSEGV"
    kept = queries.runtime("stays")
    assert (kept.process_id, kept.generation) == (stays.process_id, 1)
    assert [alive.process.pid for alive in host.snapshot().alive] == [stays.process_id]


def test_a_claim_that_was_never_spawned_is_spawned_by_the_next_master(
    host: Host, make_config: MakeConfig
) -> None:
    """The master was killed between its commit and the spawn."""
    make_config(worker_id="w", auto_start=True)
    services.claim_start("w", 1)
    with leading():
        assert with_process("w").generation == 1


def test_a_pid_that_a_killed_master_did_not_write_down_is_written_down(
    host: Host, make_config: MakeConfig
) -> None:
    """[L10] Killed between the spawn and its commit; the worker was ready before anybody looked."""
    make_config(worker_id="w", auto_start=True)
    services.claim_start("w", 1)
    alive = host.start(worker_id="w")
    services.ready(alive.instance, {"worker": "1", "python": "3", "celery": "5"})
    with leading():
        assert with_process("w").process_id == alive.process.pid


def test_a_claim_that_the_database_lost_is_claimed_again(
    host: Host, make_config: MakeConfig
) -> None:
    """[L10, L11] A restart's claim is on disk a moment after its worker is asked for. The power of
    the database failed between the two: the row shows the generation before, nothing is started
    twice, and what runs goes on."""
    make_config(worker_id="w", auto_start=True, restart_delay_ms=0)
    services.claim_start("w", 1)
    first = host.start(worker_id="w")
    services.spawned(first)
    services.ready(first.instance, VERSIONS)
    os.kill(first.process.pid, signal.SIGKILL)
    host.gone(first.instance)
    second = host.start(worker_id="w", generation=2)
    with leading():
        found = with_process("w", generation=2)
        eventually(lambda: not host.snapshot().gone, "the end of the first is acknowledged")
    assert (found.generation, found.process_id) == (2, second.process.pid)
    assert process.is_alive(second.process)
    assert WorkerLog.objects.filter(event="exited").count() == 1


def test_a_restart_is_durable_before_its_crash_is_acknowledged(
    host: Host, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[L6, L10] Its commit does not wait for the disk; the agent keeps the exit until it is
    there."""
    done: list[str] = []
    acknowledge, make_durable = LocalBackend.acknowledge, services.make_durable

    def told(self: LocalBackend, instance: Instance) -> None:
        done.append("acknowledged")
        acknowledge(self, instance)

    def flushed() -> None:
        with psycopg.connect(database_url()) as other:
            found = other.execute("SELECT generation FROM lifecycle_workerruntime").fetchone()
        done.append(f"generation {found and found[0]} made durable")
        make_durable()

    monkeypatch.setattr(LocalBackend, "acknowledge", told)
    monkeypatch.setattr(services, "make_durable", flushed)
    make_config(worker_id="w", auto_start=True, restart_delay_ms=0)
    with leading():
        pid = with_process("w").process_id
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with_process("w", generation=2)
        eventually(lambda: "acknowledged" in done, "the crash is acknowledged")
    assert done == ["generation 2 made durable", "acknowledged"]


def test_an_exit_of_the_past_is_durable_before_it_is_acknowledged(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[L6, L10] What made it one may be a claim whose commit did not wait for the disk."""
    done: list[str] = []
    monkeypatch.setattr(services, "make_durable", lambda: done.append("durable"))
    make_config(worker_id="w")
    services.claim_start("w", 1)
    services.exited(gone("w", 1), lambda: 0.0)
    services.claim_start("w", 2)
    backend = Mock(acknowledge=lambda _instance: done.append("acknowledged"))
    steps = Steps({DeploymentType.LOCAL: backend}, Sight(), Agenda(), lambda: False)
    assert steps.take_gone(DeploymentType.LOCAL, gone("w", 1), lambda _runtime: None)
    assert done == ["durable", "acknowledged"]


def test_a_restart_that_a_clock_put_far_away_comes_now(host: Host, make_config: MakeConfig) -> None:
    """The clock was set back after a crash: nobody waits for the hour to come round again."""
    config = make_config(worker_id="w", auto_start=True, restart_delay_ms=1000)
    services.claim_start("w", 1)
    services.exited(gone("w", 1), lambda: 0.0)
    WorkerRuntime.objects.filter(config=config).update(
        restart_at=timezone.now() + timedelta(hours=2)
    )
    with leading():
        assert with_process("w", generation=2).restart_count == 1


def test_a_snapshot_that_is_older_than_a_start_does_not_hide_it(
    host: Host, make_config: MakeConfig
) -> None:
    """It was waiting in the queue while the worker was started."""
    make_config(worker_id="w", auto_start=True)
    before = time.monotonic()
    with leading() as master:
        started = with_process("w")
        services.ready(Instance("w", 1), {"worker": "1", "python": "3", "celery": "5"})
        master.items.put(Observed(DeploymentType.LOCAL, Snapshot((), ()), at=before))
        services.request_stop("w", "ann", timeout_ms=2000)
        in_state("w", State.STOPPED)
    assert list(WorkerLog.objects.filter(event="exited").values_list("message", flat=True)) == [
        "stopped: exit code 0"
    ]
    assert started.generation == 1


def gone(worker_id: str, generation: int) -> Gone:
    now = timezone.now()
    return Gone(Instance(worker_id, generation), Exit(code=1), now, now)


def test_a_process_id_that_the_database_lost_is_learned_again(
    host: Host, make_config: MakeConfig
) -> None:
    """Its commit does not wait for the disk: the agent knows it, and nothing is started."""
    make_config(worker_id="w", auto_start=True)
    with leading():
        first = with_process("w")
    WorkerRuntime.objects.update(process_id=None, started_at=None)
    with leading():
        again = with_process("w")
    assert (again.process_id, again.generation) == (first.process_id, 1)
    assert again.started_at == first.started_at


def test_a_killed_agent_comes_back_and_nothing_is_started_twice(
    host: Host, make_config: MakeConfig
) -> None:
    make_config(worker_id="w", auto_start=True)
    with leading():
        first = with_process("w")
        host.kill_agent()
        host.start_agent()
        services.request_stop("w", "ann", timeout_ms=2000)
        in_state("w", State.STOPPED)
        assert queries.runtime("w").generation == first.generation


def test_the_system_shuts_down_in_order(host: Host, make_config: MakeConfig) -> None:
    """[L13] Every worker stops; those with auto_start will start again, the others not."""
    make_config(worker_id="auto", auto_start=True)
    make_config(worker_id="manual")
    services.request_start("manual", "ann")
    with leading() as master:
        with_process("auto")
        with_process("manual")
        master.items.put(ShutDown())
        in_state("auto", State.STOPPED)
        in_state("manual", State.STOPPED)
    assert host.snapshot().alive == ()
    wishes = {r.config.worker_id: r.desired_state for r in queries.runtimes()}
    assert wishes == {"auto": "running", "manual": "stopped"}


def test_a_deleted_config_leaves_no_process(host: Host, make_config: MakeConfig) -> None:
    config = make_config(worker_id="w", auto_start=True)
    with leading():
        running = with_process("w")
        with pytest.raises(Rejected):
            services.delete_config(config, "ann")
        alive = host.snapshot().alive[0]
        config.delete()  # somebody reached around the service
        services.notify("w")
    with leading():
        eventually(lambda: not process.is_alive(alive.process), "the process is ended")
    assert running.process_id == alive.process.pid


def test_one_that_leads_no_more_decides_nothing(host: Host, make_config: MakeConfig) -> None:
    """[L11] Whatever it had taken in before: it was frozen, and its lead is gone."""
    make_config(worker_id="w", auto_start=True)
    lead = leadership.acquire(database_url(), [services.CHANNEL])
    master = Master(backends.backends(), leads=partial(is_open, lead.connection))
    assert master.leads()
    snapshot = host.snapshot()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [lead.connection.info.backend_pid])
    eventually(lambda: not master.leads(), "it knows, though nobody reads from the connection")
    master.sight.take(DeploymentType.LOCAL, snapshot, 0.0)
    master.reconcile(["w"])
    assert queries.runtime("w").generation == 0
    master.items.put(Notified("w"))
    assert master._next() is None
    lead.give_up()
    assert not master.leads()


def test_auto_start_waits_for_the_broker(host: Host, make_config: MakeConfig) -> None:
    """[L4] Until it has answered a worker is stopped, with the reason; one that was started by a
    person, or crashed, waits for the broker itself [L5]."""
    make_config(worker_id="auto", auto_start=True)
    make_config(worker_id="asked")
    services.request_start("asked", "ann")
    with leading(broker_answers=False) as master:
        with_process("asked")
        waiting = runtime_when("auto", lambda r: r.reason == "waiting for broker", "says so")
        assert waiting.state == State.STOPPED
        assert waiting.generation == 0
        master.items.put(BrokerAnswers())
        assert with_process("auto").reason != "waiting for broker"


def test_who_shall_not_start_any_more_waits_for_no_broker(
    host: Host, make_config: MakeConfig
) -> None:
    make_config(worker_id="auto", auto_start=True)
    with leading(broker_answers=False):
        runtime_when("auto", lambda r: r.reason == "waiting for broker", "says so")
        services.request_stop("auto", "ann")
        assert runtime_when("auto", lambda r: not r.reason, "no reason").state == State.STOPPED


def test_two_masters_one_leads(host: Host) -> None:
    """[L11] The second waits, and leads as soon as the first is gone."""
    first = leadership.acquire(database_url(), [services.CHANNEL])
    led = threading.Event()

    def second() -> None:
        leadership.acquire(database_url(), [services.CHANNEL]).give_up()
        led.set()

    with alongside(second, end=first.give_up):
        assert not led.wait(1.5)
        first.give_up()
        assert led.wait(5)


def test_the_lead_ends_with_the_connection(host: Host) -> None:
    lead = leadership.acquire(database_url(), [services.CHANNEL])
    pid = lead.connection.info.backend_pid
    ended = threading.Event()

    def listen() -> None:
        list(lead.notifications())
        ended.set()

    with alongside(listen):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        assert ended.wait(5)
