"""What was read for accounts, as lists to look up: sync runs, audits, gaps."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from lifecycle.console.live import DASH, AdminBase, LiveList, ReadOnlyAdmin, badge, moment
from lifecycle.said import said
from sync import queries
from sync.admin.by_account import BY_ACCOUNT
from sync.errors import SyncError
from sync.models import ACCEPTED_GAP, OPEN_GAP, Audit, Gap, SyncRun
from sync.trail import settle_gap
from sync.types import AuditOutcome, RunOutcome


def clipped(text: str, size: str = "") -> SafeString | str:
    """One line of a text, whole when the pointer rests on it. `size`: "small" for a narrow one."""
    if not text:
        return DASH
    style = f"m-clip m-clip-{size}" if size else "m-clip"
    return format_html('<span class="{}" title="{}">{}</span>', style, text[:1000], text[:200])


class SaidFields(AdminBase):
    """A row's page with what is stored in English in the reader's language."""

    SAID: ClassVar[dict[str, str]] = {
        "error": "said_error",
        "reason": "said_reason",
        "newer_end": "said_newer_end",
    }

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        names: Any = super().get_fields(request, obj)
        return [self.SAID.get(name, name) for name in names]

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().history_view(request, object_id, extra_context)
        if isinstance(response, TemplateResponse):
            for entry in (response.context_data or {}).get("action_list", ()):
                entry.change_message = said(entry.change_message)
        return response

    @admin.display(description=_("error"))
    def said_error(self, row: Any) -> str:
        return said(row.error) or DASH

    @admin.display(description=_("reason"))
    def said_reason(self, row: Any) -> str:
        return said(row.reason) or DASH

    @admin.display(description=_("newer end"))
    def said_newer_end(self, row: Any) -> str:
        return said(row.newer_end) or DASH


class RecordAdmin(SaidFields, LiveList, ReadOnlyAdmin):
    """A long list, the newest first."""

    list_select_related = ["account"]
    list_filter: ClassVar[list[Any]] = [BY_ACCOUNT]
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Each with what a list says of its account: no secrets."""
        rows = super().get_queryset(request).select_related(*self.list_select_related)
        return rows.defer(*queries.OF_ACCOUNT)


@admin.register(SyncRun)
class SyncRunAdmin(RecordAdmin):
    list_display = [
        "finished",
        "account",
        "result",
        "read",
        "new",
        "changed",
        "same",
        "refused",
        "took",
        "worker_id",
        "trouble",
    ]
    list_filter = ["outcome", BY_ACCOUNT]
    search_fields = ["worker_id", "error", "account__identifier"]
    list_fullwidth = True

    @admin.display(description=_("finished"), ordering="id")
    def finished(self, run: SyncRun) -> SafeString | str:
        return moment(run.finished_at)

    @admin.display(description=_("outcome"), ordering="outcome")
    def result(self, run: SyncRun) -> SafeString:
        tone = "green" if run.outcome == RunOutcome.COMMITTED else "red"
        return badge(run.get_outcome_display(), tone)

    @admin.display(description=_("duration"), ordering="duration_ms")
    def took(self, run: SyncRun) -> str:
        return f"{run.duration_ms:.0f} ms"

    @admin.display(description=_("error"))
    def trouble(self, run: SyncRun) -> SafeString | str:
        return clipped(said(run.error))


AUDIT_TONES = {
    AuditOutcome.RUNNING: "blue live",
    AuditOutcome.COMPLETE: "green",
    AuditOutcome.FAILED: "red",
}


def audit_badge(audit: Audit) -> SafeString:
    tone = AUDIT_TONES[AuditOutcome(audit.outcome)]
    return badge(audit.get_outcome_display(), tone, said(audit.error))


@admin.register(Audit)
class AuditAdmin(RecordAdmin):
    """Comparisons of the platforms' ids with ours."""

    list_display = [
        "begun",
        "account",
        "result",
        "listed",
        "missing",
        "outdated",
        "vanished",
        "repaired",
        "asked",
        "trouble",
    ]
    list_filter = ["outcome", BY_ACCOUNT]
    search_fields = ["error", "asked_by", "account__identifier"]
    exclude = ["progress"]
    list_fullwidth = True

    @admin.display(description=_("started"), ordering="id")
    def begun(self, audit: Audit) -> SafeString | str:
        return moment(audit.started_at)

    @admin.display(description=_("outcome"), ordering="outcome")
    def result(self, audit: Audit) -> SafeString:
        return audit_badge(audit)

    @admin.display(description=_("asked by"))
    def asked(self, audit: Audit) -> str:
        return audit.asked_by or str(_("schedule"))

    @admin.display(description=_("error"))
    def trouble(self, audit: Audit) -> SafeString | str:
        return clipped(said(audit.error))


MOST_REFUSALS = 10  # that a page tells of


class GapState(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"
    conditions: ClassVar[dict[str, Q]] = {
        "open": OPEN_GAP,
        "accepted": ACCEPTED_GAP,
        "closed": Q(closed_at__isnull=False),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("open", _("open")),
            ("accepted", _("accepted as lost")),
            ("closed", _("closed")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Gap]) -> QuerySet[Gap]:
        condition = self.conditions.get(self.value() or "")
        return queryset.filter(condition) if condition else queryset


@admin.register(Gap)
class GapAdmin(RecordAdmin):
    """What platforms have and we don't, until backfill has closed it, or somebody accepts it as
    lost."""

    list_display = ["found", "account", "standing", "why", "place", "older", "newer"]
    list_filter = [GapState, BY_ACCOUNT]
    actions = ["accept_selected", "reopen_selected"]
    search_fields = ["scope", "reason", "account__identifier"]
    exclude = ["key"]
    list_fullwidth = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Gap]:
        return queries.with_titles(super().get_queryset(request))

    @admin.display(description=_("found"), ordering="id")
    def found(self, gap: Gap) -> SafeString | str:
        return moment(gap.found_at)

    @admin.display(description=_("state"), ordering="closed_at")
    def standing(self, gap: Gap) -> SafeString:
        if gap.closed_at:
            return format_html("{} {}", badge(_("closed"), "green"), moment(gap.closed_at))
        if gap.accepted_at:
            return format_html("{} {}", badge(_("accepted as lost"), "grey"), gap.accepted_by)
        return badge(_("open"), "amber live")

    @admin.display(description=_("where"), ordering="scope")
    def place(self, gap: Any) -> SafeString | str:
        return clipped(gap.title or gap.scope, "small")

    @admin.display(description=_("older end"))
    def older(self, gap: Gap) -> SafeString | str:
        return clipped(gap.older_end, "small") if gap.older_end else str(_("the beginning"))

    @admin.display(description=_("newer end"))
    def newer(self, gap: Gap) -> SafeString | str:
        return clipped(said(gap.newer_end), "small")

    @admin.display(description=_("reason"))
    def why(self, gap: Gap) -> SafeString | str:
        return clipped(said(gap.reason))

    # --- actions ---

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("sync.operate_account")

    @admin.action(description=_("Accept as lost"), permissions=["settle"])
    def accept_selected(self, request: HttpRequest, rows: QuerySet[Gap]) -> None:
        """Undone by “Reopen”."""
        self._settle(request, rows, accept=True)

    @admin.action(description=_("Reopen"), permissions=["settle"])
    def reopen_selected(self, request: HttpRequest, rows: QuerySet[Gap]) -> None:
        self._settle(request, rows, accept=False)

    def _settle(self, request: HttpRequest, rows: QuerySet[Gap], *, accept: bool) -> None:
        done, refused = 0, []
        for gap in rows:
            try:
                settle_gap(request.user, gap, accept=accept)
                done += 1
            except SyncError as error:
                refused.append(f"{gap}: {error}")
        if done:
            text = ngettext("%(n)d gap: done.", "%(n)d gaps: done.", done)
            messages.success(request, text % {"n": done})
        for said_why in refused[:MOST_REFUSALS]:
            messages.error(request, said_why)
