"""Accounts in the admin, and what was read for them. The inbox is in `sync.admin.inbox`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from lifecycle.console.by_typing import WorkerFilter
from lifecycle.console.forms import ServiceAdmin
from lifecycle.console.live import LiveList, answer
from sync import platforms, queries, services, store
from sync.admin.account_columns import AccountColumns
from sync.admin.account_filters import FailingFilter, HomelessFilter, StalledFilter
from sync.admin.conversation_page import marked_text
from sync.admin.forms import AccountForm, credential_fields
from sync.admin.hooks import is_pushed
from sync.admin.inbox import PlatformFilter
from sync.admin.proof import AccountProof
from sync.admin.worker_accounts import WorkerAccounts
from sync.errors import Rejected
from sync.models import Account


class AccountPlatformFilter(PlatformFilter):
    field = "platform"


@admin.register(Account)
class AccountAdmin(
    AccountColumns,
    AccountProof,
    WorkerAccounts,
    ServiceAdmin,
    LiveList,
    ModelAdmin,  # type: ignore[misc]
):
    """Accounts are written through `sync.services` alone; credentials are never shown back."""

    form = AccountForm
    list_display = [
        "who",
        "standing",
        "last_sync",
        "stored",
        "unread",
        "worker",
        "buttons",
    ]
    list_filter = [
        *("enabled", AccountPlatformFilter, FailingFilter, StalledFilter, HomelessFilter),
        *("login_state", ("worker", WorkerFilter)),
    ]
    search_fields = ["name", "identifier", "endpoint", "last_error"]
    list_fullwidth = True
    list_per_page = 50
    warn_unsaved_form = True
    actions = ["check_selected", "read_selected", "enable_selected", "disable_selected"]
    FACTS = [
        "worker",
        "last_synced",
        "stalled_from",
        "checked_every",
        "conversations_total",
        "messages_total",
        "posts_total",
        "comments_total",
        "unread_total",
    ]
    readonly_fields = [*FACTS, "webhook"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        return queries.accounts()

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("sync.operate_account")

    # --- list ---

    def get_list_display(self, request: HttpRequest) -> Any:
        shown = list(super().get_list_display(request))
        return shown if self.has_operate_permission(request) else shown[:-1]

    # --- form ---

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:
        editable = self.has_change_permission(request, obj) if obj else True
        place = [
            "platform",
            "identifier",
            "endpoint",
            "name",
            ("interval_s", "audit_interval_s"),
            "stalled_after_s",
            "enabled",
        ]
        inputs = [
            name
            for platform in platforms.registry().values()
            for name in credential_fields(platform.name, platform.credentials)
        ]
        kept = _("Stored encrypted and never shown. Leave all empty to keep what is stored.")
        fresh = _("Stored encrypted and never shown again.")
        return [
            (None, {"fields": place}),
            *(
                [(_("Credentials"), {"fields": inputs, "description": kept if obj else fresh})]
                if editable
                else []
            ),
            *([(_("State"), {"fields": self.FACTS})] if obj else []),
            *([(_("Webhook"), {"fields": ["webhook"]})] if obj and is_pushed(obj) else []),
            *([(None, {"fields": ["seen"], "classes": ["hidden"]})] if obj and editable else []),
        ]

    def get_form(
        self, request: HttpRequest, obj: Account | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """The inputs of credentials are made by the form itself: the model has no such fields."""
        kwargs["fields"] = [] if obj and not self.has_change_permission(request, obj) else None
        if kwargs["fields"] is None:
            kwargs["fields"] = list(AccountForm.Meta.fields)
        return super().get_form(request, obj, change=change, **kwargs)

    @property
    def conditional_fields(self) -> dict[str, str]:
        """Shows the inputs of the chosen platform alone (unfold, Alpine expressions)."""
        return {
            name: f"platform == '{platform.name}'"
            for platform in platforms.registry().values()
            for name in credential_fields(platform.name, platform.credentials)
        }

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        if change:
            current = Account.objects.select_for_update(no_key=True).get(pk=obj.pk)
            form.refuse_if_changed(current)
            services.update_account(current, form.fields_to_save)
        else:
            obj.pk = services.create_account(form.fields_to_save).pk

    def delete_model(self, request: HttpRequest, obj: Account) -> None:
        services.delete_account(obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Accounts are deleted one by one: each takes its conversations along."""
        return {k: v for k, v in super().get_actions(request).items() if k != "delete_selected"}

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, ...]:
        """What goes with an account, as numbers: it can be a million messages."""
        accounts = list(objs)
        counts = {
            gettext("accounts"): len(accounts),
            gettext("conversations"): sum(account.conversations_total for account in accounts),
            gettext("messages"): sum(account.messages_total for account in accounts),
        }
        return [str(account) for account in accounts], counts, set(), []

    # --- actions ---

    def get_urls(self) -> list[URLPattern]:
        check = self.admin_site.admin_view(require_POST(self.check_view))
        return [path("<int:pk>/check/", check, name="sync_account_check"), *super().get_urls()]

    def check_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        if not self.has_operate_permission(request):
            raise PermissionDenied
        account = get_object_or_404(Account, pk=pk)
        back_to = reverse("admin:sync_account_changelist")
        try:
            services.check_now(account.pk)
        except Rejected as refused:
            return answer(request, messages.ERROR, str(refused), back_to)
        text = gettext("%(account)s is checked now.") % {"account": account}
        return answer(request, messages.SUCCESS, text, back_to)

    @admin.action(description=_("Check now"), permissions=["operate"])
    def check_selected(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        chosen = list(rows.filter(enabled=True).values_list("pk", flat=True))
        for pk in chosen:
            with suppress(Rejected, Account.DoesNotExist):  # since then
                services.check_now(pk)
        text = ngettext(
            "%(n)d account is checked now.", "%(n)d accounts are checked now.", len(chosen)
        )
        messages.success(request, text % {"n": len(chosen)})

    @admin.action(description=_("Mark all messages read"), permissions=["operate"])
    def read_selected(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        marked = sum(store.mark_all_read(pk) for pk in list(rows.values_list("pk", flat=True)))
        messages.success(request, marked_text(marked))

    @admin.action(description=_("Enable"), permissions=["change"])
    def enable_selected(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        self._set_enabled(request, rows, enabled=True)

    @admin.action(description=_("Disable"), permissions=["change"])
    def disable_selected(self, request: HttpRequest, rows: QuerySet[Account]) -> None:
        self._set_enabled(request, rows, enabled=False)

    def _set_enabled(self, request: HttpRequest, rows: QuerySet[Account], *, enabled: bool) -> None:
        """Each for itself: one that can't be changed says why, and the others are."""
        changed = 0
        for account in rows.filter(enabled=not enabled):
            with suppress(Account.DoesNotExist):  # since then
                try:
                    services.update_account(account, {"enabled": enabled})
                    changed += 1
                except ValidationError as invalid:
                    messages.error(request, f"{account}: {' '.join(invalid.messages)}")
        text = ngettext("%(n)d account changed.", "%(n)d accounts changed.", changed)
        messages.success(request, text % {"n": changed})
