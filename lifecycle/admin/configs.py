"""Worker configs and the lifecycle log in the admin; the fleet itself is in `fleet`."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from simple_history.admin import SimpleHistoryAdmin
from unfold.admin import ModelAdmin

from lifecycle import services
from lifecycle.admin.worker_page import LEVEL_TONES
from lifecycle.console.forms import ServiceAdmin, ServiceForm
from lifecycle.console.live import DASH, LiveList, ReadOnlyAdmin, badge, moment
from lifecycle.errors import LifecycleError
from lifecycle.models import WorkerConfig, WorkerLog
from lifecycle.types import Level


@admin.register(WorkerConfig)
class WorkerConfigAdmin(ServiceAdmin, SimpleHistoryAdmin, ModelAdmin):  # type: ignore[misc]
    """Configs are written through `lifecycle.services` alone; old versions can be restored."""

    form = ServiceForm
    list_display = [
        "worker_id",
        "name",
        "deployment",
        "capacity",
        "pooled",
        "starts",
        "enabled",
        "version",
    ]
    list_filter = ["enabled", "deployment_type", "auto_start", "pool"]
    search_fields = ["worker_id", "name", "description", "host"]
    list_select_related = ["runtime"]
    readonly_fields = ["version", "created_at", "updated_at"]
    history_list_display = ["version"]
    warn_unsaved_form = True
    actions: list[Any] = []
    fieldsets = [
        (None, {"fields": ["worker_id", "name", "description", ("enabled", "auto_start")]}),
        (
            _("Where it runs"),
            {
                "fields": [
                    "deployment_type",
                    ("host", "port"),
                    "working_directory",
                    "deployment_options",
                ]
            },
        ),
        (
            _("What it takes"),
            {
                "fields": [
                    ("max_accounts", "queues"),
                    ("pool", "concurrency"),
                    ("max_memory_mb", "cpu_cores"),
                ]
            },
        ),
        (
            _("After a crash"),
            {
                "fields": [
                    ("auto_restart", "restart_mode"),
                    ("restart_delay_ms", "max_restart_delay_ms"),
                    ("max_restart_attempts", "stable_after_s"),
                    "heartbeat_timeout_s",
                ]
            },
        ),
        (
            _("Process"),
            {"fields": ["env_variables", "command_args", ("log_max_mb", "log_files")]},
        ),
        (_("Version"), {"fields": [("version", "created_at", "updated_at")]}),
    ]

    @admin.display(description=_("deployment"), ordering="deployment_type")
    def deployment(self, config: WorkerConfig) -> str:
        return f"{config.get_deployment_type_display()} · {config.host}"

    @admin.display(description=_("max. accounts"), ordering="max_accounts")
    def capacity(self, config: WorkerConfig) -> int:
        return config.max_accounts

    @admin.display(description=_("pool"), ordering="pool")
    def pooled(self, config: WorkerConfig) -> str:
        return f"{config.pool} × {config.concurrency}"

    @admin.display(description=_("auto start"), boolean=True, ordering="auto_start")
    def starts(self, config: WorkerConfig) -> bool:
        return config.auto_start

    def get_readonly_fields(self, request: HttpRequest, obj: WorkerConfig | None = None) -> Any:
        """The worker id names queues and logs: it is given once."""
        return [*self.readonly_fields, *(["worker_id"] if obj else [])]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Configs are deleted one by one: each may be refused for its own reason."""
        return {}

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, ...]:
        """What goes with a config, as numbers: its log can have many thousand rows."""
        configs = list(objs)
        logs = WorkerLog.objects.filter(config__in=configs).count()
        counts = {gettext("worker configs"): len(configs), gettext("worker logs"): logs}
        return [str(config) for config in configs], counts, set(), []

    def save_model(self, request: HttpRequest, obj: WorkerConfig, form: Any, change: bool) -> None:
        fields, actor = form.cleaned_data, request.user.get_username()
        if change:
            saved = services.update_config(WorkerConfig.objects.get(pk=obj.pk), fields, actor)
        else:
            saved = services.create_config(fields, actor)
        obj.pk, obj.version = saved.pk, saved.version

    def delete_model(self, request: HttpRequest, obj: WorkerConfig) -> None:
        services.delete_config(obj, request.user.get_username())

    def history_form_view(
        self,
        request: HttpRequest,
        object_id: str,
        version_id: str,
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().history_form_view(request, object_id, version_id, extra_context)  # type: ignore[no-any-return]
        except (LifecycleError, ValidationError) as error:
            return self._refused(request, error, request.get_full_path())

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except LifecycleError as error:
            back_to = reverse("admin:lifecycle_workerconfig_change", args=[object_id])
            return self._refused(request, error, back_to)

    def _refused(self, request: HttpRequest, error: Exception, back_to: str) -> HttpResponse:
        said = error.messages if isinstance(error, ValidationError) else [str(error)]
        for text in said:
            messages.error(request, text)
        return HttpResponseRedirect(back_to)


@admin.register(WorkerLog)
class WorkerLogAdmin(LiveList, ReadOnlyAdmin):
    """What happened to workers, newest first."""

    list_display = ["at", "severity", "worker", "event", "change", "message", "actor"]
    list_display_links = None
    list_filter = ["level", "event", "config"]
    search_fields = ["message", "actor", "config__worker_id"]
    list_select_related = ["config"]
    list_per_page = 50
    list_fullwidth = True
    show_full_result_count = False

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
