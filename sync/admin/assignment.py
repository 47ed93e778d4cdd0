"""The one page about how accounts are given to workers [L15]."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from lifecycle.balance import Strategy
from lifecycle.console.forms import ServiceAdmin
from lifecycle.console.live import DASH
from sync import queries, services
from sync.models import Assignment


@admin.register(Assignment)
class AssignmentAdmin(ServiceAdmin, ModelAdmin):  # type: ignore[misc]
    """Operators choose the strategy; it is there once, so the list is its page."""

    readonly_fields = ["in_use", "waiting"]
    fields = ["strategy", "in_use", "waiting"]
    compressed_fields = True

    @admin.display(description=_("accounts with a running worker"))
    def in_use(self, _row: Assignment) -> str:
        placement = queries.placement()
        return f"{placement.served} / {placement.capacity}"

    @admin.display(description=_("waiting accounts"))
    def waiting(self, _row: Assignment) -> str:
        return queries.placement().reason or DASH

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:sync_assignment_change", args=[1]))

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Assignment | None:
        """As long as nobody has chosen there is no row, and the default is shown."""
        return (Assignment.objects.first() or Assignment()) if object_id == "1" else None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("sync.view_account")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("sync.operate_account")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Assignment, form: Any, change: bool) -> None:
        services.set_strategy(Strategy(obj.strategy), request.user.get_username())
