"""What an account's page shows below its form: where it stands, how complete its store is [S9]."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from lifecycle.console.ids import row_id
from lifecycle.console.live import AdminBase, answer, moment
from sync import platforms, queries, services
from sync.admin.account_columns import account_badge, last_error, notice
from sync.admin.records import audit_badge
from sync.errors import LoginUnderWay, SyncError
from sync.models import ACCEPTED_GAP, OPEN_GAP, OPEN_LOGIN, Account
from sync.trail import settle_gap
from sync.types import AuditOutcome

AUDITS = 5
GAPS = 10


class AccountProof(AdminBase):
    """The part of `AccountAdmin` that shows gaps, audits and dead letters, and asks for logins."""

    change_form_outer_after_template = "console/account_proof.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        name = "sync_account"
        return [
            path("<int:pk>/proof/", view(self.proof_view), name=f"{name}_proof"),
            path("<int:pk>/audit/", view(require_POST(self.audit_view)), name=f"{name}_audit"),
            path(
                "<int:pk>/gaps/<int:gap>/accept/",
                view(require_POST(self.accept_gap_view)),
                name=f"{name}_accept_gap",
            ),
            path("<int:pk>/login/", view(require_POST(self.login_view)), name=f"{name}_login"),
            *super().get_urls(),
        ]

    def proof_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asked for anew while the page is open."""
        account = self._account(request, pk, "sync.view_account")
        platform = platforms.registry().get(account.platform)
        gaps = queries.gaps(account.pk).filter(OPEN_GAP)
        audits = list(queries.audits(account.pk)[:AUDITS])
        context: dict[str, Any] = {
            "account": account,
            "state": account_badge(account),
            "no_worker": queries.why_no_worker(account),
            "last_error": last_error(account),
            "notice": notice(account),
            "complete": moment(account.complete_until) if account.complete_until else "",
            "next_audit": moment(account.audit_due_at) if account.audit_due_at else "",
            "lists_ids": platform is not None and platform.lists_ids,
            "platform": platform.label if platform else account.platform,
            "gaps": [(gap, moment(gap.found_at)) for gap in queries.with_titles(gaps)[:GAPS]],
            "gaps_total": gaps.count(),
            "gaps_accepted": queries.gaps(account.pk).filter(ACCEPTED_GAP).count(),
            "audits": [(one, audit_badge(one), moment(one.started_at)) for one in audits],
            "is_auditing": any(
                one.outcome == AuditOutcome.RUNNING and not one.failures for one in audits
            ),
            "letters": queries.dead_letter_figures(timezone.now(), account.pk),
            "open_login": queries.login_sessions().filter(OPEN_LOGIN, account=account).first(),
            "may_operate": request.user.has_perm("sync.operate_account"),
        }
        return TemplateResponse(request, "console/account_proof_live.html", context)

    def audit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        account = self._account(request, pk, "sync.operate_account")
        back_to = reverse("admin:sync_account_change", args=[pk])
        try:
            services.ask_audit(
                account.pk,
                request.user.get_username(),
                timezone.now(),
                full="full" in request.POST,
            )
        except SyncError as refused:
            return answer(request, messages.ERROR, str(refused), back_to)
        text = gettext("%(account)s is compared with its platform.") % {"account": account}
        return answer(request, messages.SUCCESS, text, back_to)

    def accept_gap_view(self, request: HttpRequest, pk: int, gap: int) -> HttpResponse:
        account = self._account(request, pk, "sync.operate_account")
        back_to = reverse("admin:sync_account_change", args=[pk])
        found = get_object_or_404(queries.gaps(account.pk), pk=row_id(gap))
        try:
            settle_gap(request.user, found, accept=True)
        except SyncError as refused:
            return answer(request, messages.ERROR, str(refused), back_to)
        text = gettext("Accepted as lost. “Reopen” in the list of gaps undoes that.")
        return answer(request, messages.SUCCESS, text, back_to)

    def login_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for a login and show it; the one that is under way, if there is one."""
        account = self._account(request, pk, "sync.operate_account")
        try:
            session = services.ask_login(account.pk, request.user.get_username(), timezone.now())
        except LoginUnderWay as under_way:
            messages.info(request, str(under_way))
            found = queries.login_sessions().filter(OPEN_LOGIN, account=account).first()
            if found is None:  # just now over
                return HttpResponseRedirect(reverse("admin:sync_account_change", args=[pk]))
            session = found
        except SyncError as refused:
            messages.error(request, str(refused))
            return HttpResponseRedirect(reverse("admin:sync_account_change", args=[pk]))
        return HttpResponseRedirect(reverse("admin:sync_loginsession_change", args=[session.pk]))

    def _account(self, request: HttpRequest, pk: object, right: str) -> Account:
        if not request.user.has_perm(right):
            raise PermissionDenied
        if (found := row_id(pk)) is None:
            raise Http404
        return get_object_or_404(queries.accounts(), pk=found)
