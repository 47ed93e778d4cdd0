"""Webhooks in the admin: what was pushed, and, on an account's page, where to."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from lifecycle.console.live import badge, moment
from lifecycle.said import said
from sync import hooks, platforms, queries
from sync.admin.by_account import BY_ACCOUNT
from sync.admin.forms import as_json
from sync.admin.inbox import PlatformFilter
from sync.admin.records import RecordAdmin, clipped
from sync.models import Account, HookDelivery
from sync.types import AccountRef, DeliveryState

TONES = {DeliveryState.PENDING: "blue", DeliveryState.DONE: "green", DeliveryState.REFUSED: "red"}
LONGEST_SHOWN = 100_000  # characters
LAST = 10


def is_pushed(account: Account) -> bool:
    platform = platforms.registry().get(account.platform)
    return platform is not None and platform.hooks is not None


def panel(account: Account) -> SafeString:
    """What to enter at the platform, what came, and the last deliveries."""
    platform = platforms.registry().get(account.platform)
    if platform is None or platform.hooks is None:
        return SafeString("")
    url = hooks.path(account.platform, account.pk)
    ref = AccountRef(account.pk, account.platform, account.identifier, account.endpoint, {}, {})
    endpoint = queries.hook_endpoint(account.pk)
    return render_to_string(
        "console/webhook_panel.html",
        {
            "path": url,
            "steps": list(platform.hooks.setup(ref, url)),
            "counts": [
                (_("accepted"), endpoint.accepted),
                (_("repeats"), endpoint.repeated),
                (_("bad signature"), endpoint.rejected),
                (_("malformed"), endpoint.malformed),
                (_("too large"), endpoint.too_large),
                (_("throttled"), endpoint.throttled),
                (_("turned away while disabled"), endpoint.missed),
            ],
            "endpoint": endpoint,
            "rejected_at": moment(endpoint.last_rejected_at),
            "deliveries": [
                (one, state_badge(one), moment(one.received_at))
                for one in queries.deliveries().filter(account_id=account.pk)[:LAST]
            ],
        },
    )


def state_badge(delivery: HookDelivery) -> SafeString:
    tone = TONES[DeliveryState(delivery.state)]
    return badge(delivery.get_state_display(), tone, said(delivery.error))


@admin.register(HookDelivery)
class HookDeliveryAdmin(RecordAdmin):
    """What was pushed; what it held is shown on its own page, to those who operate accounts."""

    list_display = ["received", "account", "standing", "named", "repeats", "why", "processed"]
    list_filter = ["state", PlatformFilter, BY_ACCOUNT]
    search_fields = ["delivery_id", "error", "order_key"]
    exclude = ["body", "headers"]
    readonly_fields = ["what"]
    list_fullwidth = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[HookDelivery]:
        return queries.deliveries()

    def get_fields(self, request: HttpRequest, obj: HookDelivery | None = None) -> Any:
        shown = [
            *("account", "delivery_id", "order_key", "number", "state", "said_error", "repeats")
        ]
        shown += ["received_at", "processed_at"]
        may_see = request.user.has_perm("sync.operate_account")
        return [*shown, "what"] if may_see else shown

    @admin.display(description=_("received"), ordering="id")
    def received(self, delivery: HookDelivery) -> SafeString | str:
        return moment(delivery.received_at)

    @admin.display(description=_("processed"))
    def processed(self, delivery: HookDelivery) -> SafeString | str:
        return moment(delivery.processed_at)

    @admin.display(description=_("state"), ordering="state")
    def standing(self, delivery: HookDelivery) -> SafeString:
        return state_badge(delivery)

    @admin.display(description=_("delivery id"))
    def named(self, delivery: HookDelivery) -> SafeString | str:
        return clipped(delivery.delivery_id, "small")

    @admin.display(description=_("error"))
    def why(self, delivery: HookDelivery) -> SafeString | str:
        return clipped(said(delivery.error))

    @admin.display(description=_("what was pushed"))
    def what(self, delivery: HookDelivery) -> SafeString:
        body = bytes(delivery.body)[:LONGEST_SHOWN].decode(errors="replace")
        return format_html('<pre class="m-raw">{}\n\n{}</pre>', as_json(delivery.headers), body)
