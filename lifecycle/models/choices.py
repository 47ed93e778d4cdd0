"""What the choices of fields are called, and the constraints that hold fields to them."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from lifecycle.types import (
    DeploymentType,
    Level,
    Pool,
    RestartMode,
    RolloutState,
    State,
    StepState,
    Wish,
)


def choices(enum: Any, *labels: Any) -> list[tuple[str, Any]]:
    """Pairs for a Django field, one label for each member in order."""
    return [(member.value, label) for member, label in zip(enum, labels, strict=True)]


STATES = choices(
    State, _("stopped"), _("starting"), _("running"), _("stopping"), _("error"), _("crashed")
)
WISHES = choices(Wish, _("running"), _("stopped"))
LEVELS = choices(Level, _("debug"), _("info"), _("warning"), _("error"))
POOLS = choices(Pool, _("threads"), _("prefork (processes)"), _("solo"))
RESTART_MODES = choices(RestartMode, _("every exit"), _("a failure"), _("never"))
ROLLOUT_STATES = choices(RolloutState, _("running"), _("done"), _("failed"), _("aborted"))
STEP_STATES = choices(StepState, _("pending"), _("running"), _("done"), _("failed"), _("skipped"))
DEPLOYMENT_TYPES = choices(DeploymentType, _("local"), _("SSH"), _("Docker"), _("Kubernetes"))


def one_of(field: str, enum: Any) -> Q:
    return Q(**{f"{field}__in": [member.value for member in enum]})
