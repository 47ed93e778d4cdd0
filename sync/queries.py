"""Reads of accounts and what they hold, shaped for lists: no secrets loaded, no query per row."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, F, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce

from lifecycle.balance import Strategy
from lifecycle.models import WorkerConfig
from lifecycle.types import State
from sync.models import (
    Account,
    Assignment,
    Conversation,
    HookDelivery,
    HookEndpoint,
    Message,
    SyncRun,
)
from sync.placement import Placement
from sync.types import LoginState

SECRETS = ("credentials", "session")
SERVED = Q(worker__runtime__state=State.RUNNING)
SYNCING = Q(enabled=True, error_count=0, last_sync_at__isnull=False)
FAILING = Q(enabled=True) & (
    Q(error_count__gt=0) | Q(login_state__in=[LoginState.FAILED, LoginState.EXPIRED])
)


def accounts() -> QuerySet[Account]:
    """All accounts, each with its worker; secrets are not decrypted until somebody asks.

    With the figures of `placement` on each: `why_no_worker` then asks nothing more.
    """
    rows = Account.objects.select_related("worker__runtime").defer(*SECRETS, "cursor")
    return rows.annotate(**{f"all_{name}": value for name, value in _placement().items()})


def _placement() -> dict[str, Any]:
    """The figures of a `Placement` as subqueries of any query: evaluated once, not for each row."""

    def total(rows: QuerySet[Any], aggregate: Any) -> Any:
        one = rows.order_by().annotate(all=Value(1)).values("all").annotate(n=aggregate)
        return Coalesce(Subquery(one.values("n")), 0)

    enabled = Account.objects.filter(enabled=True)
    running = WorkerConfig.objects.filter(runtime__state=State.RUNNING)
    return {
        "waiting": total(enabled.exclude(SERVED), Count("pk")),
        "served": total(enabled.filter(SERVED), Count("pk")),
        "capacity": total(running, Sum("max_accounts")),
        "running": total(running, Count("pk")),
    }


def strategy() -> Strategy:
    """How accounts are given to workers."""
    chosen = Assignment.objects.values_list("strategy", flat=True).first()
    return Strategy(chosen or Strategy.LEAST_LOADED)


def placement() -> Placement:
    """How many accounts wait for a worker, and why: two queries."""
    enabled = Q(enabled=True)
    accounts = Account.objects.aggregate(
        served=Count("pk", filter=enabled & SERVED), enabled=Count("pk", filter=enabled)
    )
    workers = WorkerConfig.objects.filter(runtime__state=State.RUNNING).aggregate(
        capacity=Sum("max_accounts", default=0), running=Count("pk")
    )
    waiting = accounts["enabled"] - accounts["served"]
    return Placement(waiting=waiting, served=accounts["served"], **workers)


def why_no_worker(account: Account) -> str:
    """Why an account of `accounts()` is not watched now; "" when it is, or is not to be."""
    if not account.enabled or (account.worker and account.worker.runtime.state == State.RUNNING):
        return ""
    figures = {name: getattr(account, f"all_{name}") for name in Placement.__slots__}
    return Placement(**figures).reason


def failing() -> QuerySet[Account]:
    """Those that `totals` counts as failing, the latest error first."""
    return accounts().filter(FAILING).order_by(F("last_error_at").desc(nulls_last=True), "-pk")


def conversations() -> QuerySet[Conversation]:
    """All conversations, the latest first, each with its account."""
    return Conversation.objects.select_related("account").defer(
        *(f"account__{name}" for name in (*SECRETS, "cursor"))
    )


def messages(conversation_id: int) -> QuerySet[Message]:
    """The messages of a conversation, the latest first."""
    return Message.objects.filter(conversation_id=conversation_id)


def deliveries() -> QuerySet[HookDelivery]:
    """Webhook deliveries, without what they hold, each with its account."""
    hidden = (f"account__{name}" for name in (*SECRETS, "cursor"))
    return HookDelivery.objects.select_related("account").defer("body", "headers", *hidden)


def hook_endpoint(account_id: int) -> HookEndpoint:
    """What came to the account's webhook address; all zero when nothing did."""
    found = HookEndpoint.objects.filter(pk=account_id).first()
    return found or HookEndpoint(account_id=account_id)


def runs(account_id: int) -> QuerySet[SyncRun]:
    """The receipts of an account, the latest first."""
    return SyncRun.objects.filter(account_id=account_id)


def totals() -> dict[str, Any]:
    """What the home page shows, in one query.

    `syncing`: enabled accounts whose last check was good; `failing`: whose last one was not, or
    whose login is not.
    """
    return Account.objects.aggregate(
        accounts=Count("pk"),
        syncing=Count("pk", filter=SYNCING & ~FAILING),
        failing=Count("pk", filter=FAILING),
        conversations=Coalesce(Sum("conversations_total"), 0),
        messages=Coalesce(Sum("messages_total"), 0),
        posts=Coalesce(Sum("posts_total"), 0),
        comments=Coalesce(Sum("comments_total"), 0),
        unread=Coalesce(Sum("unread_total"), 0),
    )
