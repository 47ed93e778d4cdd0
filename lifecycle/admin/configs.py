"""Worker configs in the admin; the fleet itself is in `fleet`, its log in `log`."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from simple_history.admin import SimpleHistoryAdmin
from simple_history.template_utils import HistoricalRecordContextHelper
from unfold.admin import ModelAdmin

from lifecycle import services
from lifecycle.backends import backends
from lifecycle.console.forms import ServiceAdmin, ServiceForm
from lifecycle.console.ids import row_id
from lifecycle.errors import LifecycleError
from lifecycle.logs_duty import KEPT
from lifecycle.masking import SECRET_FIELDS, masked
from lifecycle.models import WorkerConfig, WorkerLog
from lifecycle.said import said
from lifecycle.types import DeploymentType


class ConfigForm(ServiceForm):
    """Carries the version that was edited, so that two people don't undo each other's work."""

    seen = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.instance
        if "seen" in self.fields and config.pk:
            version = config.version
            if hasattr(config, "_history"):  # an old version, to be put over the present one
                version = WorkerConfig.objects.values_list("version", flat=True).get(pk=config.pk)
            self.fields["seen"].initial = version


class MaskedChanges(HistoricalRecordContextHelper):  # type: ignore[misc]  # untyped
    """The list of what each version changed, without secrets."""

    def prepare_delta_change_value(self, change: Any, value: Any) -> Any:
        return masked(super().prepare_delta_change_value(change, value))


@admin.register(WorkerConfig)
class WorkerConfigAdmin(ServiceAdmin, SimpleHistoryAdmin, ModelAdmin):  # type: ignore[misc]
    """Configs are written through `lifecycle.services` alone; old versions can be restored."""

    form = ConfigForm
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
    change_form_before_template = "console/config_conflict.html"
    delete_confirmation_template = "console/config_delete.html"
    actions: list[Any] = []
    fieldsets: ClassVar[list[Any]] = [
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
                    ("max_restart_attempts", "restart_window_s"),
                    ("stable_after_s", "heartbeat_timeout_s"),
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
        if obj and not self.has_change_permission(request, obj):
            return flatten_fieldsets(self.fieldsets)
        return [*self.readonly_fields, *(["worker_id"] if obj else [])]

    def get_fieldsets(self, request: HttpRequest, obj: WorkerConfig | None = None) -> Any:
        """With the hidden version where there is something to be changed."""
        if not obj or not self.has_change_permission(request, obj):
            return self.fieldsets
        return [*self.fieldsets, (None, {"fields": ["seen"], "classes": ["hidden"]})]

    # --- secrets: only for those who may change configs, as over the API ---

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> WorkerConfig | None:
        found: WorkerConfig | None = super().get_object(request, object_id, from_field)
        return self._without_secrets(request, found) if found else None

    def render_history_view(
        self, request: HttpRequest, template: str, context: dict[str, Any], **kwargs: Any
    ) -> HttpResponse:
        if "original" in context:
            self._without_secrets(request, context["original"])
        return super().render_history_view(request, template, context, **kwargs)  # type: ignore[no-any-return]

    def get_historical_record_context_helper(self, request: HttpRequest, record: Any) -> Any:
        if self.has_change_permission(request):
            return super().get_historical_record_context_helper(request, record)
        return MaskedChanges(self.model, record)

    def _without_secrets(self, request: HttpRequest, config: WorkerConfig) -> WorkerConfig:
        if not self.has_change_permission(request, config):
            for name in SECRET_FIELDS:
                setattr(config, name, masked(getattr(config, name)))
        return config

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
        fields, actor = dict(form.cleaned_data), request.user.get_username()
        seen = fields.pop("seen", None)
        if change:
            current = WorkerConfig.objects.get(pk=obj.pk)
            for name in request.POST.getlist("take"):  # of a conflict: these stay as they are now
                if name in fields:
                    fields[name] = getattr(current, name)
            current.version = seen or current.version
            saved = services.update_config(current, fields, actor)
            _offer_restart(request, saved)
        else:
            saved = services.create_config(fields, actor)
        if DeploymentType(saved.deployment_type) not in backends():
            text = gettext("Saved, but workers of the type “%(type)s” can't be started here yet.")
            messages.warning(request, text % {"type": saved.get_deployment_type_display()})
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
        if row_id(object_id) is None or row_id(version_id) is None:
            raise Http404
        if request.method == "POST" and not self.has_change_permission(request):
            raise PermissionDenied  # the base class asks for the right to view alone
        try:
            return super().history_form_view(request, object_id, version_id, extra_context)  # type: ignore[no-any-return]
        except (LifecycleError, ValidationError) as error:
            return self._refused(request, error, request.get_full_path())

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if row_id(object_id) is None:
            raise Http404
        return super().history_view(request, object_id, extra_context)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {**(extra_context or {}), "kept_days": KEPT.days}
        try:
            return super().delete_view(request, object_id, context)
        except LifecycleError as error:
            back_to = reverse("admin:lifecycle_workerconfig_change", args=[object_id])
            return self._refused(request, error, back_to)

    def _refused(self, request: HttpRequest, error: Exception, back_to: str) -> HttpResponse:
        told = error.messages if isinstance(error, ValidationError) else [str(error)]
        for text in told:
            messages.error(request, said(text))
        return HttpResponseRedirect(back_to)


def _offer_restart(request: HttpRequest, config: WorkerConfig) -> None:
    """Tell who changed what only a restart brings about, and lead those on who may do it."""
    if not config.runtime.is_outdated:
        return
    text = gettext("%(worker)s still runs with its old config; a restart brings it up to date.")
    told: str = text % {"worker": config.worker_id}
    if request.user.has_perm("lifecycle.operate_worker"):
        url = reverse("admin:lifecycle_rollout_begin")
        link = '{} <a class="m-link" href="{}?outdated=1">{}</a>'
        told = format_html(link, told, url, gettext("Rolling restart"))
    messages.warning(request, told)
