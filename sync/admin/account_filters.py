"""Filters of the list of accounts [S7]."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from sync import queries
from sync.models import Account


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


class HomelessFilter(YesOrNo):
    title = _("without worker")
    parameter_name = "homeless"
    condition = Q(worker__isnull=True)
