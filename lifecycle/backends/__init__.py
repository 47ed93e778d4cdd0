"""Deployment backends, by deployment type."""

from __future__ import annotations

from functools import cache

from django.conf import settings

from lifecycle.backends.base import Backend
from lifecycle.backends.local import LocalBackend
from lifecycle.errors import SpawnRefused
from lifecycle.models import WorkerConfig
from lifecycle.types import DeploymentType


@cache
def backends() -> dict[DeploymentType, Backend]:
    """Every backend that this installation has."""
    return {DeploymentType.LOCAL: LocalBackend(settings.MUSTER.agent_socket)}


def backend_for(config: WorkerConfig) -> Backend:
    """Raises `SpawnRefused` when this installation can't run workers of that type."""
    try:
        return backends()[DeploymentType(config.deployment_type)]
    except KeyError:
        raise SpawnRefused(
            f"deployment type {config.deployment_type} is not available here yet"
        ) from None
