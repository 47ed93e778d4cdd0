"""What the operators' home shows; a fixed number of queries, whatever the fleet's size."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.utils import timezone

from lifecycle import queries as fleet
from lifecycle.admin.rollouts import banner
from lifecycle.admin.worker_page import LEVEL_TONES, TONES
from lifecycle.console.live import badge, moment
from lifecycle.models import WorkerLog
from lifecycle.types import Level, State
from sync import queries as inbox

EVENTS = 12
FAILING = 6

User = AbstractBaseUser | AnonymousUser | PermissionsMixin


def home(user: Any) -> dict[str, Any]:
    """Template context of `console/home_live.html`, with what `user` may see."""
    context: dict[str, Any] = {}
    if user.has_perm("lifecycle.view_workerruntime"):
        context |= {"fleet": _fleet(), "banner": banner(user)}
    if user.has_perm("lifecycle.view_workerlog"):
        rows = WorkerLog.objects.select_related("config")[:EVENTS]
        context["events"] = [
            (row, badge(row.get_level_display(), LEVEL_TONES[Level(row.level)]), moment(row.time))
            for row in rows
        ]
    if user.has_perm("sync.view_account"):
        context["inbox"] = inbox.totals()
        context["no_worker"] = inbox.placement().reason
        context["letters"] = inbox.dead_letter_figures(timezone.now())
        context["failing"] = [
            (account, moment(account.last_error_at)) for account in inbox.failing()[:FAILING]
        ]
    return context


def _fleet() -> dict[str, Any]:
    """The overview, with one bar for each state that has workers and how full the fleet is."""
    overview = fleet.overview()
    capacity = overview["total_capacity"]
    return {
        **overview,
        "bars": [
            (state.value, TONES[state].split()[0], overview[state.value])
            for state in State
            if overview[state.value]
        ],
        "filled": min(100, round(100 * overview["total_accounts"] / capacity)) if capacity else 0,
        "down": overview["crashed"] + overview["error"],
    }
