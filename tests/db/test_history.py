"""What is kept of what happened to workers, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from lifecycle.metrics_duty import MetricsDuty
from lifecycle.models import Rollout, RolloutStep, WorkerConfig, WorkerLog
from lifecycle.services import history, metrics
from lifecycle.services.history import KEPT
from lifecycle.types import RolloutState

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


def test_old_rows_of_the_lifecycle_log_go_in_parts(
    make_config: Callable[..., WorkerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, now = make_config(), timezone.now()
    config.logs.all().delete()
    for age in (KEPT - SECOND, *[KEPT + SECOND] * 5):
        WorkerLog.objects.create(config=config, time=now - age, event="exited", message="x")
    monkeypatch.setattr(metrics, "PRUNED_AT_ONCE", 2)
    assert history.prune(now) == 5
    assert WorkerLog.objects.get().time == now - KEPT + SECOND


def test_old_rolling_restarts_go_with_their_steps(
    make_config: Callable[..., WorkerConfig],
) -> None:
    config, now = make_config(), timezone.now()
    for state, finished_at in (
        (RolloutState.DONE, now - KEPT - SECOND),
        (RolloutState.DONE, now - KEPT + SECOND),
        (RolloutState.RUNNING, None),
    ):
        made = Rollout.objects.create(state=state, finished_at=finished_at, actor="ann")
        RolloutStep.objects.create(rollout=made, config=config)
    MetricsDuty().run(now)
    left = set(Rollout.objects.values_list("state", flat=True))
    assert (Rollout.objects.count(), left) == (2, {"done", "running"})
    assert RolloutStep.objects.count() == 2
