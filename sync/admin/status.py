"""The page that says how syncing goes [S7, S8]: rates, lag, breakers, stalled accounts, workers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lifecycle.console.live import ReadOnlyAdmin, age, badge, moment, polls, span
from lifecycle.said import said
from sync import overview, queries
from sync.admin.looks import platform_label
from sync.models import PlatformServer
from sync.types import BreakerState

LIVE = "live-sync"
SHOWN = 20  # rows of each list; the lists of accounts and dead letters have all
TONES = {
    BreakerState.CLOSED: "amber",
    BreakerState.OPEN: "red",
    BreakerState.HALF_OPEN: "blue live",
}


def status() -> dict[str, Any]:
    """Template context of `console/sync_live.html`: a fixed number of queries."""
    now = timezone.now()
    figures, letters = overview.figures(now), overview.open_dead_letters()
    rates = overview.rates(now)
    return {
        "figures": figures,
        "rates": rates,
        "bytes": filesizeformat(rates.size),
        "lag": span(figures["lag_s"]),
        "dead_letters": sum(count for _platform, count in letters),
        "placement": queries.placement().reason,
        "stalled": [
            (account, age(account.last_sync_at or account.created_at, now), _why(account))
            for account in overview.stalled()[:SHOWN]
        ],
        "servers": [
            (server, platform_label(server.platform), breaker_badge(server), _until(server))
            for server in overview.servers().filter(failures__gt=0)[:SHOWN]
        ],
        "workers": [
            {**row, "label": platform_label(row["platform"]), "lag": span(row["lag_s"])}
            for row in overview.watching(now)
        ],
    }


def breaker_badge(server: PlatformServer) -> Any:
    state = BreakerState(server.state)
    words = {
        BreakerState.CLOSED: _("fails at times"),
        BreakerState.OPEN: _("not asked"),
        BreakerState.HALF_OPEN: _("one account tries"),
    }
    return badge(words[state], TONES[state], said(server.last_error))


def _until(server: PlatformServer) -> Any:
    return moment(server.retry_at) if server.state == BreakerState.OPEN else ""


def _why(account: Any) -> str:
    return said(account.present_error) or queries.why_no_worker(account)


@admin.register(PlatformServer)
class SyncPage(ReadOnlyAdmin):
    """The list of servers is this page: they are a part of it."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {**status(), **self.admin_site.each_context(request), "title": _("Sync")}
        name = "console/sync_live.html" if polls(request, LIVE) else "console/sync.html"
        return TemplateResponse(request, name, context | (extra_context or {}))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("sync.view_account")
