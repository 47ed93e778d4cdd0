"""Addresses of the lifecycle's API, below /api/v1."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter

from lifecycle.api.configs import WorkerConfigViewSet
from lifecycle.api.rollouts import RolloutViewSet
from lifecycle.api.workers import WorkerViewSet

router = SimpleRouter(trailing_slash=False)
router.register("worker-configs", WorkerConfigViewSet, basename="worker-config")
router.register("workers/rollouts", RolloutViewSet, basename="rollout")
router.register("workers", WorkerViewSet, basename="worker")

urlpatterns = router.urls
