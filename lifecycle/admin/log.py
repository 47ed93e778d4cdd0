"""The lifecycle log in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from lifecycle.admin.worker_page import LEVEL_TONES
from lifecycle.console.by_typing import WorkerFilter
from lifecycle.console.live import DASH, LiveList, ReadOnlyAdmin, badge, moment
from lifecycle.models import WorkerLog
from lifecycle.said import said
from lifecycle.types import EVENTS, Level


class EventFilter(admin.SimpleListFilter):
    """By what happened. Django's own would read the whole log for the names."""

    title = _("event")
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in EVENTS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[WorkerLog]) -> QuerySet[WorkerLog]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(WorkerLog)
class WorkerLogAdmin(LiveList, ReadOnlyAdmin):
    """What happened to workers, newest first."""

    list_display = ["at", "severity", "worker", "event", "change", "what", "actor"]
    list_display_links = None
    list_filter = ["level", EventFilter, ("config", WorkerFilter)]
    search_fields = ["message", "actor", "config__worker_id"]
    list_select_related = ["config"]
    list_per_page = 50
    list_fullwidth = True

    @admin.display(description=_("time"), ordering="id")
    def at(self, row: WorkerLog) -> SafeString | str:
        return moment(row.time)

    @admin.display(description=_("level"), ordering="level")
    def severity(self, row: WorkerLog) -> SafeString:
        return badge(row.get_level_display(), LEVEL_TONES[Level(row.level)])

    @admin.display(description=_("worker"), ordering="config__worker_id")
    def worker(self, row: WorkerLog) -> SafeString:
        url = reverse("admin:lifecycle_workerruntime_change", args=[row.config_id])
        return format_html('<a href="{}" class="m-link">{}</a>', url, row.config.worker_id)

    @admin.display(description=_("state"))
    def change(self, row: WorkerLog) -> str:
        if row.from_state == row.to_state:
            return DASH
        return f"{row.get_from_state_display()} → {row.get_to_state_display()}"

    @admin.display(description=_("message"), ordering="message")
    def what(self, row: WorkerLog) -> str:
        return said(row.message)
