"""Where an account stands: a word for it, its last error, filters for those in trouble [S7]."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from lifecycle.console.live import DASH, badge, moment
from sync import queries
from sync.models import Account
from sync.types import LoginState


def account_badge(account: Account) -> SafeString:
    """One word for where an account stands."""
    if not account.enabled:
        return badge(_("disabled"), "grey")
    if account.login_state == LoginState.FAILED:
        return badge(_("waits for a person"), "red", account.present_error)
    if account.stalled_since:
        return badge(_("stalled"), "red", account.present_error or queries.why_no_worker(account))
    if account.login_state == LoginState.EXPIRED:
        return badge(_("login expired"), "amber", account.present_error)
    if account.error_count:
        return badge(_("error"), "red", account.present_error)
    if why := queries.why_no_worker(account):
        return badge(_("no worker"), "amber", why)
    if account.last_sync_at is None:
        return badge(_("first sync"), "blue live")
    return badge(_("in step"), "green live")


def last_error(account: Account) -> SafeString | str:
    """The last error, when it was, and whether it is over."""
    if not account.last_error:
        return DASH
    over = badge(_("over"), "green") if account.error_is_over else badge(_("still there"), "red")
    when = moment(account.last_error_at)
    return format_html("{} {} <small>{}</small>", over, account.last_error, when)


class YesOrNo(admin.SimpleListFilter):
    """Rows that `condition` holds for, or not."""

    condition: Q

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Account]) -> QuerySet[Account]:
        match self.value():
            case "yes":
                return queryset.filter(self.condition)
            case "no":
                return queryset.exclude(self.condition)
            case _:
                return queryset


class StalledFilter(YesOrNo):
    title = _("stalled")
    parameter_name = "stalled"
    condition = Q(stalled_since__isnull=False)


class FailingFilter(YesOrNo):
    title = _("failing")
    parameter_name = "failing"
    condition = queries.FAILING
