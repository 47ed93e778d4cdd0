"""The accounts of one worker, on its own page."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from lifecycle.console.live import AdminBase, age
from sync import queries
from sync.admin.account_columns import account_badge
from sync.admin.looks import platform_label

SHOWN = 10


class WorkerAccounts(AdminBase):
    """The part of `AccountAdmin` that a worker's page asks for."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.worker_view)
        return [path("of-worker/<int:pk>/", view, name="sync_account_worker"), *super().get_urls()]

    def worker_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """How many it has, and those in trouble first; asked for anew while the page is open."""
        if not request.user.has_perm("sync.view_account"):
            raise PermissionDenied
        now = timezone.now()
        rows = queries.accounts().filter(worker=pk)
        order = (F("stalled_since").asc(nulls_last=True), "-error_count", "pk")
        context = {
            "worker_pk": pk,
            "figures": queries.standings(rows),
            "rows": [
                (one, platform_label(one.platform), account_badge(one), age(one.last_sync_at, now))
                for one in rows.order_by(*order)[:SHOWN]
            ],
        }
        return TemplateResponse(request, "console/worker_accounts.html", context)
