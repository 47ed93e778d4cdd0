"""What may happen to a master: the items on its queue."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from lifecycle.backends.base import BackendEvent
from lifecycle.types import DeploymentType


@dataclass(frozen=True, slots=True)
class Notified:
    worker_id: str


@dataclass(frozen=True, slots=True)
class Observed:
    deployment_type: DeploymentType
    event: BackendEvent
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection to a backend is gone: what it showed means nothing now."""

    deployment_type: DeploymentType


@dataclass(frozen=True, slots=True)
class BrokerAnswers:
    """For the first time since this master leads."""


@dataclass(frozen=True, slots=True)
class ShutDown:
    """End the fleet: stop every worker, then be done."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Be done; workers go on without a master."""


Item = Notified | Observed | Lost | BrokerAnswers | ShutDown | Leave
