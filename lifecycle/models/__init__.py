"""Workers: what people configured, what is, and what happened [L1, L2, L3]."""

from lifecycle.models.choices import (
    DEPLOYMENT_TYPES,
    LEVELS,
    POOLS,
    RESTART_MODES,
    ROLLOUT_STATES,
    STATES,
    STEP_STATES,
    WISHES,
    choices,
    one_of,
)
from lifecycle.models.configs import WorkerConfig, default_queues, own_queue
from lifecycle.models.homes import FleetHome
from lifecycle.models.logs import WorkerLog
from lifecycle.models.metrics import WorkerMetric
from lifecycle.models.rollouts import Rollout, RolloutStep
from lifecycle.models.runtime import WorkerRuntime

__all__ = [
    "DEPLOYMENT_TYPES",
    "LEVELS",
    "POOLS",
    "RESTART_MODES",
    "ROLLOUT_STATES",
    "STATES",
    "STEP_STATES",
    "WISHES",
    "FleetHome",
    "Rollout",
    "RolloutStep",
    "WorkerConfig",
    "WorkerLog",
    "WorkerMetric",
    "WorkerRuntime",
    "choices",
    "default_queues",
    "one_of",
    "own_queue",
]
