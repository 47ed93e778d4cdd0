"""Rolling restarts as rows: begun, carried on, aborted [L8]."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from lifecycle import queries, services
from lifecycle.errors import Rejected, UnknownWorker
from lifecycle.models import Rollout, RolloutStep, WorkerConfig
from lifecycle.types import (
    Alive,
    DeploymentType,
    Exit,
    Gone,
    Instance,
    ProcessRef,
    RolloutState,
    State,
    StepState,
)
from tests.db.test_services import VERSIONS, bring_up

pytestmark = pytest.mark.django_db

MakeConfig = Callable[..., WorkerConfig]


def states(rollout: Rollout) -> list[str]:
    return [step.state for step in RolloutStep.objects.filter(rollout=rollout)]


def complete_restart(worker_id: str) -> None:
    """What master and worker do once a restart is wished for."""
    runtime = queries.runtime(worker_id)
    old, new = (
        Instance(worker_id, runtime.generation),
        Instance(worker_id, runtime.last_generation + 1),
    )
    services.claim_succession(worker_id, new.generation)
    services.spawned(Alive(new, ProcessRef(5000 + new.generation, 1, "boot"), timezone.now()))
    services.ready(new, VERSIONS)
    now = timezone.now()
    services.exited(Gone(old, Exit(code=0), now, now), lambda: 0.0)


@pytest.fixture
def three(make_config: MakeConfig) -> list[str]:
    for name in ("a", "b", "c"):
        bring_up(make_config(worker_id=name))
    return ["a", "b", "c"]


def test_worker_after_worker_to_the_end(three: list[str]) -> None:
    rollout = services.begin_rollout(three, "ann")
    for number, worker_id in enumerate(three):
        services.advance_rollout(timezone.now())
        assert states(rollout) == [*["done"] * number, "running", *["pending"] * (2 - number)]
        assert queries.runtime(worker_id).wanted_generation == 2
        complete_restart(worker_id)
    services.advance_rollout(timezone.now())
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.DONE
    assert states(rollout) == ["done"] * 3
    assert {runtime.generation for runtime in queries.runtimes()} == {2}
    assert services.advance_rollout(timezone.now()) is False


def test_a_failure_leaves_the_rest_as_it_is(three: list[str]) -> None:
    rollout = services.begin_rollout(three, "ann")
    services.advance_rollout(timezone.now())
    services.claim_succession("a", 2)
    now = timezone.now()
    services.exited(Gone(Instance("a", 2), Exit(code=3), now, now), lambda: 0.0)
    services.advance_rollout(timezone.now())
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.FAILED
    assert "exit code 3" in rollout.reason
    assert states(rollout) == ["failed", "skipped", "skipped"]
    assert all(runtime.state == State.RUNNING for runtime in queries.runtimes())


def test_an_abort_begins_nothing_more(three: list[str]) -> None:
    rollout = services.begin_rollout(three, "ann")
    services.advance_rollout(timezone.now())
    services.abort_rollout(rollout.pk, "ben")
    assert services.abort_rollout(rollout.pk, "ben").state == RolloutState.ABORTED
    assert set(states(rollout)) == {StepState.SKIPPED}
    assert services.advance_rollout(timezone.now()) is False


def test_a_rollout_begun_at_once_after_an_abort_waits_for_what_that_left(three: list[str]) -> None:
    """[L8] Never more than `max_surge` at a time, whoever began them."""
    first = services.begin_rollout(["a"], "ann")
    services.advance_rollout(timezone.now())
    services.abort_rollout(first.pk, "ann")
    second = services.begin_rollout(["b", "c"], "ann")
    services.advance_rollout(timezone.now())
    assert states(second) == ["pending", "pending"]
    complete_restart("a")
    services.advance_rollout(timezone.now())
    assert states(second) == ["running", "pending"]


def test_a_worker_that_is_starting_is_restarted_once_it_runs(three: list[str]) -> None:
    """[L8] It was claimed before the config was changed: to run is not to be up to date."""
    now = timezone.now()
    services.exited(Gone(Instance("a", 1), Exit(code=1), now, now), lambda: 0.0, lambda _: 2)
    config = WorkerConfig.objects.get(worker_id="a")
    services.update_config(config, {"concurrency": 4}, "ann")
    rollout = services.begin_rollout(["a"], "ann")
    services.advance_rollout(timezone.now())
    assert states(rollout) == ["pending"]
    services.spawned(Alive(Instance("a", 2), ProcessRef(78, 1, "boot"), now))
    services.ready(Instance("a", 2), VERSIONS)
    services.advance_rollout(timezone.now())
    assert states(rollout) == ["running"]
    complete_restart("a")
    services.advance_rollout(timezone.now())
    assert states(rollout) == ["done"]
    assert services.outdated_workers() == []


def test_workers_of_other_code_are_outdated(three: list[str]) -> None:
    """[L8] A new code version is brought about by the same rolling restart."""
    now = timezone.now()
    services.code_loaded(DeploymentType.LOCAL, "old")
    for number, worker_id in enumerate(three):
        alive = Alive(Instance(worker_id, 1), ProcessRef(90 + number, 1, "boot"), now, "old")
        services.spawned(alive)
    assert services.outdated_workers() == []
    services.code_loaded(DeploymentType.LOCAL, "new")
    assert services.outdated_workers() == three
    assert all(runtime.is_outdated for runtime in queries.runtimes())
    services.request_restart("a", "ann")
    services.claim_succession("a", 2)
    services.spawned(Alive(Instance("a", 2), ProcessRef(99, 1, "boot"), now, "new"))
    assert services.outdated_workers() == three  # not ready yet
    services.ready(Instance("a", 2), VERSIONS)
    assert services.outdated_workers() == three[1:]


def test_one_at_a_time(three: list[str]) -> None:
    first = services.begin_rollout(three, "ann")
    with pytest.raises(Rejected, match=f"{first.pk} is under way"):
        services.begin_rollout(three, "ben")


def test_bad_wishes(three: list[str]) -> None:
    with pytest.raises(UnknownWorker):
        services.begin_rollout(["a", "nobody"], "ann")
    with pytest.raises(Rejected):
        services.begin_rollout([], "ann")
    with pytest.raises(ValidationError):
        services.begin_rollout(three, "ann", timeout_ms=1)
    with pytest.raises(ValidationError, match="With both limits at 0"):
        services.begin_rollout(three, "ann", max_surge=0, max_unavailable=0)
    assert not Rollout.objects.exists()


def test_outdated_workers(three: list[str]) -> None:
    config = WorkerConfig.objects.get(worker_id="b")
    services.update_config(config, {"concurrency": 4}, "ann")
    assert services.outdated_workers() == ["b"]
    assert [runtime.is_outdated for runtime in queries.runtimes()] == [False, True, False]


def test_the_reason_survives_a_heartbeat(three: list[str]) -> None:
    rollout = services.begin_rollout(three, "ann")
    services.advance_rollout(timezone.now())
    services.claim_succession("a", 2)
    now = timezone.now()
    services.exited(Gone(Instance("a", 2), Exit(code=3), now, now), lambda: 0.0)
    services.heartbeat(Instance("a", 1), active_tasks=0, tasks_done=0, reason="")
    services.advance_rollout(timezone.now())
    rollout.refresh_from_db()
    assert "exit code 3" in rollout.reason


def test_looking_costs_the_same_for_any_fleet(
    three: list[str], django_assert_max_num_queries: Callable[[int], object]
) -> None:
    services.begin_rollout(three, "ann", max_surge=1)
    services.advance_rollout(timezone.now())
    with django_assert_max_num_queries(4):  # type: ignore[attr-defined]
        services.advance_rollout(timezone.now())


def test_a_restart_that_was_called_off_can_be_asked_for_again(three: list[str]) -> None:
    services.request_restart("a", "ann")
    services.claim_succession("a", 2)
    now = timezone.now()
    services.exited(Gone(Instance("a", 2), Exit(code=3), now, now), lambda: 0.0)
    rollout = services.begin_rollout(["a"], "ann")
    services.advance_rollout(timezone.now())
    services.claim_succession("a", 3)
    services.spawned(Alive(Instance("a", 3), ProcessRef(77, 1, "boot"), now))
    services.ready(Instance("a", 3), VERSIONS)
    services.exited(Gone(Instance("a", 1), Exit(code=0), now, now), lambda: 0.0)
    services.advance_rollout(timezone.now())
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.DONE
