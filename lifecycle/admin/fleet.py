"""The fleet page: workers with live state and buttons, and the page of one worker."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from lifecycle import queries
from lifecycle.admin.rollouts import banner, begin_page
from lifecycle.admin.worker_page import (
    WISHES,
    log_stream,
    log_text,
    log_viewer,
    outdated_badge,
    page,
    state_badge,
    wish_text,
    wishes_now,
)
from lifecycle.console.live import (
    DASH,
    LIVE_ROWS,
    LiveList,
    ReadOnlyAdmin,
    age,
    answer,
    polls,
    span,
    two_lines,
    visible,
)
from lifecycle.errors import BackendError, LifecycleError
from lifecycle.models import WorkerRuntime
from lifecycle.said import said
from lifecycle.series import PERIODS


@admin.register(WorkerRuntime)
class WorkerAdmin(LiveList, ReadOnlyAdmin):
    """The fleet. Buttons write wishes; what becomes of them shows within two seconds."""

    list_display = [
        "worker",
        "state_now",
        "process",
        "heartbeat",
        "load",
        "accounts",
        "tasks",
        "restart_count",
        "buttons",
    ]
    list_filter = ["state", "config__deployment_type", "desired_state"]
    search_fields = ["config__worker_id", "config__name", "reason"]
    list_per_page = 100
    list_fullwidth = True
    list_before_template = "console/rollout_banner_live.html"
    actions = [
        *("start_selected", "stop_selected", "restart_selected", "roll_selected"),
        "force_stop_selected",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerRuntime]:
        return queries.runtimes()

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        shown = {} if polls(request, LIVE_ROWS) else {"banner": banner(request.user)}
        return super().changelist_view(request, shown | (extra_context or {}))

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("lifecycle.operate_worker")

    # --- columns ---

    @admin.display(description=_("worker"), ordering="config__worker_id")
    def worker(self, runtime: WorkerRuntime) -> SafeString:
        kind = runtime.config.get_deployment_type_display()
        return two_lines(runtime.config.worker_id, runtime.config.name or kind)

    @admin.display(description=_("state"), ordering="state")
    def state_now(self, runtime: WorkerRuntime) -> SafeString:
        """The state, and below it the reason where there is one."""
        reason = said(runtime.reason)
        return format_html(
            '<span class="m-two m-state"><span class="m-marks">{}{}</span>'
            '<small class="m-clip" title="{}">{}</small></span>',
            state_badge(runtime),
            outdated_badge(runtime),
            reason,
            reason,
        )

    @admin.display(description=_("process"), ordering="-started_at")
    def process(self, runtime: WorkerRuntime) -> SafeString | str:
        if not runtime.process_id:
            return DASH
        return two_lines(runtime.process_id, span(queries.uptime_s(runtime, timezone.now())))

    @admin.display(description=_("heartbeat"), ordering="last_heartbeat_at")
    def heartbeat(self, runtime: WorkerRuntime) -> str:
        return age(runtime.last_heartbeat_at, timezone.now()) if runtime.process_id else DASH

    @admin.display(description=_("load"), ordering="memory_usage_mb")
    def load(self, runtime: WorkerRuntime) -> SafeString | str:
        if not runtime.process_id:
            return DASH
        return two_lines(f"{runtime.cpu_usage:.1f} %", f"{runtime.memory_usage_mb:.0f} MB")

    @admin.display(description=_("accounts"), ordering="assigned_accounts")
    def accounts(self, runtime: WorkerRuntime) -> SafeString:
        return format_html(
            "<span>{}<span class='m-of'>/{}</span></span>",
            runtime.assigned_accounts,
            runtime.config.max_accounts,
        )

    @admin.display(description=_("tasks"), ordering="active_tasks")
    def tasks(self, runtime: WorkerRuntime) -> int:
        return runtime.active_tasks

    @admin.display(description="")
    def buttons(self, runtime: WorkerRuntime) -> SafeString:
        context = {"runtime": runtime, "can": wishes_now(runtime)}
        return render_to_string("console/worker_buttons.html", context)

    def get_list_display(self, request: HttpRequest) -> Any:
        shown = list(super().get_list_display(request))
        return shown if self.has_operate_permission(request) else shown[:-1]

    # --- actions ---

    @admin.action(description=_("Start"), permissions=["operate"])
    def start_selected(self, request: HttpRequest, rows: QuerySet[WorkerRuntime]) -> None:
        self._wish_all(request, rows, "start")

    @admin.action(description=_("Stop"), permissions=["operate"])
    def stop_selected(self, request: HttpRequest, rows: QuerySet[WorkerRuntime]) -> None:
        self._wish_all(request, rows, "stop")

    @admin.action(description=_("Restart"), permissions=["operate"])
    def restart_selected(self, request: HttpRequest, rows: QuerySet[WorkerRuntime]) -> None:
        self._wish_all(request, rows, "restart")

    @admin.action(description=_("Rolling restart"), permissions=["operate"])
    def roll_selected(self, request: HttpRequest, rows: QuerySet[WorkerRuntime]) -> HttpResponse:
        """Asks how many at a time, and then begins it."""
        return begin_page(request, list(rows.values_list("config__worker_id", flat=True)))

    @admin.action(description=_("Force stop"), permissions=["operate"])
    def force_stop_selected(
        self, request: HttpRequest, rows: QuerySet[WorkerRuntime]
    ) -> HttpResponse | None:
        if "confirmed" in request.POST:
            self._wish_all(request, rows, "force-stop")
            return None
        return self._confirm(request, rows, action="force_stop_selected")

    def _wish_all(self, request: HttpRequest, rows: QuerySet[WorkerRuntime], verb: str) -> None:
        """One wish for each row, and one message for each that was refused."""
        taken = 0
        for worker_id in rows.values_list("config__worker_id", flat=True):
            try:
                WISHES[verb](worker_id, request.user.get_username())
                taken += 1
            except LifecycleError as error:
                messages.error(request, f"{worker_id}: {error}")
        if taken:
            text = ngettext("%(n)d worker: %(wish)s.", "%(n)d workers: %(wish)s.", taken)
            messages.success(request, text % {"n": taken, "wish": wish_text(verb)})

    def _confirm(
        self, request: HttpRequest, rows: QuerySet[WorkerRuntime], action: str = ""
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Force stop"),
            "opts": self.opts,
            "workers": rows,
            "action": action,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "console/force_stop.html", context)

    # --- pages of one worker ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/log/", view(self.log_view), name="lifecycle_worker_log"),
            path(
                "<int:pk>/force-stop/",
                view(self.force_stop_view),
                name="lifecycle_worker_force_stop",
            ),
            path(
                "<int:pk>/wish/<str:verb>/",
                view(require_POST(self.wish_view)),
                name="lifecycle_worker_wish",
            ),
            *super().get_urls(),
        ]

    def wish_view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """POST of a button: writes the wish, or says why not."""
        runtime = self._runtime(request, pk, operate=True)
        worker_id = runtime.config.worker_id
        back_to = reverse("admin:lifecycle_workerruntime_change", args=[pk])
        if verb not in WISHES:
            raise PermissionDenied
        try:
            wished = WISHES[verb](worker_id, request.user.get_username())
        except LifecycleError as error:
            return answer(request, messages.ERROR, said(str(error)), back_to)
        if not wished.changed:
            text = gettext("%(worker)s: nothing to do, it is so already.") % {"worker": worker_id}
            return answer(request, messages.INFO, text, back_to)
        text = f"{worker_id}: {wish_text(verb)}."
        return answer(request, messages.SUCCESS, text, back_to)

    def force_stop_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._runtime(request, pk, operate=True)
        if request.method == "POST":
            return self.wish_view(request, pk, "force-stop")
        return self._confirm(request, queries.runtimes().filter(pk=pk))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Everything known of one worker; polled as `live-worker`."""
        runtime = self._runtime(request, object_id)
        context = page(runtime) | {"may_operate": self.has_operate_permission(request)}
        if polls(request, "live-worker"):
            return TemplateResponse(request, "console/worker_live.html", context)
        context |= {
            **self.admin_site.each_context(request),
            "title": runtime.config.worker_id,
            "opts": self.opts,
            "original": runtime,
            "periods": list(PERIODS),
            **log_viewer(runtime, request.GET.get("stream", "")),
        }
        return TemplateResponse(request, "console/worker.html", context)

    def log_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The log of `?stream=stdout|stderr` on a page of its own; with `&download` as a file."""
        runtime = self._runtime(request, pk)
        stream = request.GET.get("stream", "")
        if "download" in request.GET:
            return _downloaded(runtime, stream)
        context = log_viewer(runtime, stream)
        context |= {
            **self.admin_site.each_context(request),
            "title": gettext("Log of %(worker)s") % {"worker": runtime.config.worker_id},
            "opts": self.opts,
            "original": runtime,
            "runtime": runtime,
        }
        return TemplateResponse(request, "console/worker_log.html", context)

    def _runtime(self, request: HttpRequest, pk: int | str, operate: bool = False) -> WorkerRuntime:
        """The worker, if the user may see (or operate) it. Raises `PermissionDenied`, `Http404`."""
        return visible(self, request, queries.runtimes(), pk, operate)


def _downloaded(runtime: WorkerRuntime, stream: str) -> HttpResponse:
    """The last lines as a text file, or in words why they can't be had."""
    try:
        text = log_text(runtime, stream)
    except BackendError as error:
        why = gettext("The log can't be read now: %(why)s") % {"why": error}
        return HttpResponse(why, status=503, content_type="text/plain; charset=utf-8")
    name = f"{runtime.config.worker_id}-{log_stream(stream)}.log"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(text, content_type="text/plain; charset=utf-8", headers=headers)
