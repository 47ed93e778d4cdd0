"""Rolling restarts in the admin: what runs and ran, one of them live, beginning and aborting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from lifecycle import queries, services
from lifecycle.agent.client import AgentClient
from lifecycle.console.forms import FormBase
from lifecycle.console.live import (
    LiveList,
    ReadOnlyAdmin,
    badge,
    moment,
    polls,
    span,
    two_lines,
    visible,
)
from lifecycle.errors import LifecycleError
from lifecycle.models import Rollout, RolloutStep
from lifecycle.said import said
from lifecycle.types import RolloutState, StepState

User = AbstractBaseUser | AnonymousUser | PermissionsMixin

TONES = {
    RolloutState.RUNNING: "blue live",
    RolloutState.DONE: "green",
    RolloutState.FAILED: "red",
    RolloutState.ABORTED: "grey",
}
STEP_TONES = {
    StepState.PENDING: "grey",
    StepState.RUNNING: "blue live",
    StepState.DONE: "green",
    StepState.FAILED: "red",
    StepState.SKIPPED: "grey",
}
PARTS = (StepState.DONE, StepState.FAILED, StepState.RUNNING, StepState.SKIPPED, StepState.PENDING)
STEPS_SHOWN = 200


def banner(user: Any) -> dict[str, Any]:
    """Template context of `console/rollout_banner.html`: for who may operate, what runs or is due.

    `rollout` is the one under way, `outdated` the number of workers with an older config or code;
    `reload_failure` says why the newest code could not be loaded.
    """
    if not user.has_perm("lifecycle.operate_worker"):
        return {}
    shown: dict[str, Any] = {
        "reload_failure": AgentClient(settings.MUSTER.agent_socket).reload_failure()
    }
    running = queries.rollouts().filter(state=RolloutState.RUNNING).first()
    if running:
        return {**shown, "rollout": running, "progress": progress_bar(running)}
    return {**shown, "outdated": queries.outdated().count()}


def progress_bar(rollout: Rollout) -> SafeString:
    """`rollout` comes from `queries.rollouts()`."""
    counts = queries.progress(rollout)
    parts = [(state.value, counts[state]) for state in PARTS if counts[state]]
    return render_to_string("console/rollout_bar.html", {"counts": counts, "parts": parts})


class BeginForm(FormBase):
    """How many at a time. The workers come as one field, or large fleets would be too many."""

    worker_ids = forms.CharField(widget=forms.HiddenInput)

    class Meta:
        model = Rollout
        fields = ("max_surge", "max_unavailable", "timeout_ms")

    def chosen(self) -> list[str]:
        given: str = self["worker_ids"].value() or ""
        return [worker_id for worker_id in given.split(",") if worker_id]


def begin_page(
    request: HttpRequest, worker_ids: Sequence[str], form: BeginForm | None = None
) -> HttpResponse:
    """Asks whether to restart these workers, and how many of them at a time."""
    context = {
        **admin.site.each_context(request),
        "title": gettext("Rolling restart"),
        "opts": Rollout._meta,  # noqa: SLF001 - public, by Django's documentation
        "form": form or BeginForm(initial={"worker_ids": ",".join(worker_ids)}),
        "workers": worker_ids,
    }
    return TemplateResponse(request, "console/rollout_begin.html", context)


@admin.register(Rollout)
class RolloutAdmin(LiveList, ReadOnlyAdmin):
    """Rolling restarts, newest first."""

    list_display = ["number", "state_now", "progress", "limits", "actor", "begun", "took", "why"]
    list_filter = ["state"]
    list_per_page = 50
    list_fullwidth = True
    actions: list[Any] = []

    def get_queryset(self, request: HttpRequest) -> QuerySet[Rollout]:
        return queries.rollouts()

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("lifecycle.operate_worker")

    # --- columns ---

    @admin.display(description=_("number"), ordering="pk")
    def number(self, rollout: Rollout) -> str:
        return f"#{rollout.pk}"

    @admin.display(description=_("state"), ordering="state")
    def state_now(self, rollout: Rollout) -> SafeString:
        return state_badge(rollout)

    @admin.display(description=_("progress"))
    def progress(self, rollout: Rollout) -> SafeString:
        return progress_bar(rollout)

    @admin.display(description=_("at a time"))
    def limits(self, rollout: Rollout) -> SafeString:
        return limits(rollout)

    @admin.display(description=_("begun"), ordering="pk")
    def begun(self, rollout: Rollout) -> SafeString | str:
        return moment(rollout.created_at)

    @admin.display(description=_("took"))
    def took(self, rollout: Rollout) -> str:
        return _took(rollout)

    @admin.display(description=_("reason"))
    def why(self, rollout: Rollout) -> SafeString:
        return format_html('<span class="m-clip" title="{0}">{0}</span>', said(rollout.reason))

    # --- pages ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("begin/", view(self.begin_view), name="lifecycle_rollout_begin"),
            path("banner/", view(self.banner_view), name="lifecycle_rollout_banner"),
            path("<int:pk>/abort/", view(self.abort_view), name="lifecycle_rollout_abort"),
            *super().get_urls(),
        ]

    def banner_view(self, request: HttpRequest) -> HttpResponse:
        context = {"banner": banner(request.user)}
        return TemplateResponse(request, "console/rollout_banner.html", context)

    def begin_view(self, request: HttpRequest) -> HttpResponse:
        """GET `?outdated=1` asks about all outdated workers; POST begins."""
        self._require_operator(request)
        if request.method != "POST":
            outdated = services.outdated_workers() if "outdated" in request.GET else []
            if not outdated:
                messages.info(request, gettext("Every worker that runs is up to date."))
                return HttpResponseRedirect(reverse("admin:lifecycle_workerruntime_changelist"))
            return begin_page(request, outdated)
        form = BeginForm(request.POST)
        if form.is_valid():
            try:
                rollout = services.begin_rollout(
                    form.chosen(), request.user.get_username(), **_limits_of(form)
                )
            except (LifecycleError, ValidationError) as error:
                form.add_error(None, error if isinstance(error, ValidationError) else str(error))
            else:
                return HttpResponseRedirect(_page_of(rollout))
        return begin_page(request, form.chosen(), form)

    def abort_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """GET asks, POST aborts."""
        self._require_operator(request)
        rollout = get_object_or_404(queries.rollouts(), pk=pk)
        if request.method == "POST":
            aborted = services.abort_rollout(pk, request.user.get_username())
            messages.info(request, gettext("Rolling restart: %(state)s.") % _state(aborted))
            return HttpResponseRedirect(_page_of(rollout))
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Abort rolling restart"),
            "opts": self.opts,
            "original": rollout,
            "rollout": rollout,
        }
        return TemplateResponse(request, "console/rollout_abort.html", context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """One rolling restart with its steps; polled as `live-rollout`."""
        rollout = visible(self, request, queries.rollouts(), object_id)
        context = _shown(rollout) | {"may_operate": self.has_operate_permission(request)}
        if polls(request, "live-rollout"):
            return TemplateResponse(request, "console/rollout_live.html", context)
        context |= {
            **self.admin_site.each_context(request),
            "title": gettext("Rolling restart %(number)s") % {"number": rollout.pk},
            "opts": self.opts,
            "original": rollout,
        }
        return TemplateResponse(request, "console/rollout.html", context)

    def _require_operator(self, request: HttpRequest) -> None:
        if not self.has_operate_permission(request):
            raise PermissionDenied


def state_badge(rollout: Rollout) -> SafeString:
    tone = TONES[RolloutState(rollout.state)]
    return badge(rollout.get_state_display(), tone, said(rollout.reason))


def limits(rollout: Rollout) -> SafeString:
    surge = gettext("%(n)d replaced") % {"n": rollout.max_surge}
    return two_lines(surge, gettext("%(n)d down") % {"n": rollout.max_unavailable})


def _shown(rollout: Rollout) -> dict[str, Any]:
    """Template context of `console/rollout_live.html`."""
    steps: QuerySet[RolloutStep] = rollout.steps.select_related("config__runtime")[:STEPS_SHOWN]
    return {
        "rollout": rollout,
        "state_badge": state_badge(rollout),
        "progress": progress_bar(rollout),
        "is_running": rollout.state == RolloutState.RUNNING,
        "begun": moment(rollout.created_at),
        "took": _took(rollout),
        "steps": [
            (step, badge(step.get_state_display(), STEP_TONES[StepState(step.state)]), _took(step))
            for step in steps
        ],
        "not_shown": max(0, queries.progress(rollout)["total"] - STEPS_SHOWN),
    }


def _took(what: Rollout | RolloutStep) -> str:
    """How long it took, or "" while that is not known."""
    begun = what.created_at if isinstance(what, Rollout) else what.started_at
    if begun is None or what.finished_at is None:
        return ""
    return span((what.finished_at - begun).total_seconds())


def _limits_of(form: BeginForm) -> dict[str, int]:
    return {name: form.cleaned_data[name] for name in BeginForm.Meta.fields}


def _state(rollout: Rollout) -> dict[str, str]:
    return {"state": rollout.get_state_display()}


def _page_of(rollout: Rollout) -> str:
    return reverse("admin:lifecycle_rollout_change", args=[rollout.pk])
