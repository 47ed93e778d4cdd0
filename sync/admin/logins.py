"""The page of a login: what is to be scanned or opened, how long it lasts, how it goes [S11]."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from lifecycle.console.ids import row_id
from lifecycle.console.live import LiveList, ReadOnlyAdmin, badge, moment, polls
from lifecycle.said import said
from sync import queries, services
from sync.admin.by_account import BY_ACCOUNT
from sync.admin.looks import platform_label
from sync.admin.records import clipped
from sync.errors import SyncError
from sync.models import LoginSession
from sync.qr import data_uri
from sync.services.logins import OPEN_STATES
from sync.types import LoginSessionState

HTMX_STOP_POLLING = 286
TONES = {
    LoginSessionState.PENDING: "blue live",
    LoginSessionState.SCANNED: "amber live",
    LoginSessionState.SUCCESS: "green",
    LoginSessionState.FAILED: "red",
    LoginSessionState.EXPIRED: "grey",
    LoginSessionState.CANCELLED: "grey",
}


@admin.register(LoginSession)
class LoginSessionAdmin(LiveList, ReadOnlyAdmin):
    """Logins that somebody asked for."""

    list_display = ["begun", "account", "state_badge", "created_by", "told"]
    list_filter = ["state", BY_ACCOUNT]
    search_fields = ["message", "created_by", "account__identifier"]
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[LoginSession]:
        return queries.login_sessions()

    @admin.display(description=_("asked for"), ordering="id")
    def begun(self, session: LoginSession) -> SafeString | str:
        return moment(session.created_at)

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, session: LoginSession) -> SafeString:
        return badge(session.get_state_display(), TONES[LoginSessionState(session.state)])

    @admin.display(description=_("message"))
    def told(self, session: LoginSession) -> SafeString | str:
        return clipped(said(session.message))

    # --- the page of one ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        name = "sync_loginsession"
        return [
            path("<int:pk>/cancel/", view(require_POST(self.cancel_view)), name=f"{name}_cancel"),
            path("<int:pk>/answer/", view(require_POST(self.answer_view)), name=f"{name}_answer"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Asked for anew each second as `live-login`, as long as it is open."""
        session = self._session(request, object_id)
        is_open = session.state in OPEN_STATES
        operates = request.user.has_perm("sync.operate_account")
        left_s = (session.expires_at - timezone.now()).total_seconds()
        context: dict[str, Any] = {
            "session": session,
            "state": self.state_badge(session),
            "is_open": is_open,
            "may_operate": operates,
            "waits": queries.why_login_waits(session),
            "left": countdown(left_s) if is_open else "",
            "qr": data_uri(session.qr_text) if operates else "",
            "qr_is_long": operates and session.qr_text and not data_uri(session.qr_text),
            "finished": moment(session.finished_at),
        }
        if polls(request, "live-login"):
            status = 200 if is_open else HTMX_STOP_POLLING
            return TemplateResponse(request, "console/login_live.html", context, status=status)
        context |= {
            **self.admin_site.each_context(request),
            "title": gettext("Log in %(account)s") % {"account": session.account},
            "opts": self.opts,
            "original": session.account,
            "platform": platform_label(session.account.platform),
        }
        return TemplateResponse(request, "console/login.html", context)

    def cancel_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        session = self._session(request, pk, operate=True)
        try:
            services.cancel_login(session.pk, request.user.get_username(), timezone.now())
        except SyncError as refused:
            messages.error(request, str(refused))
        return self._back(pk)

    def answer_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A code, or the address where the browser ended."""
        session = self._session(request, pk, operate=True)
        given = request.POST.get("answer", "").strip()
        is_address = given.startswith(("https://", "http://"))
        try:
            answer = services.answer_from(**{"address" if is_address else "code": given})
            services.answer_login(session.pk, answer, timezone.now())
        except ValidationError as invalid:
            messages.error(request, " ".join(invalid.messages))
        except SyncError as refused:
            messages.error(request, str(refused))
        else:
            messages.success(request, gettext("Handed over to the worker."))
        return self._back(pk)

    def _back(self, pk: int) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:sync_loginsession_change", args=[pk]))

    def _session(self, request: HttpRequest, pk: object, *, operate: bool = False) -> LoginSession:
        if not self.has_view_permission(request):
            raise PermissionDenied
        if operate and not request.user.has_perm("sync.operate_account"):
            raise PermissionDenied
        if (found := row_id(pk)) is None:
            raise Http404
        return get_object_or_404(queries.login_sessions(), pk=found)


def countdown(seconds: float) -> str:
    """Minutes and seconds that are left: `4:05`."""
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02}"
