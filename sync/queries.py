"""Reads of accounts and what they hold, shaped for lists: no secrets loaded, no query per row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce

from lifecycle.balance import Strategy
from lifecycle.models import WorkerConfig
from lifecycle.types import State
from sync import platforms
from sync.models import (
    Account,
    Assignment,
    Audit,
    Comment,
    Conversation,
    DeadLetter,
    Gap,
    HookDelivery,
    HookEndpoint,
    LoginSession,
    Message,
    Post,
    RecordVersion,
    Reply,
    SyncRun,
)
from sync.placement import Placement
from sync.types import DeadLetterState, LoginSessionState, LoginState, ReplyState

MOST_IN_BAR = 8
SECRETS = ("credentials", "session")
OF_ACCOUNT = tuple(f"account__{name}" for name in (*SECRETS, "cursor"))
GROWING = timedelta(hours=1)  # how far back new dead letters count for the alarm
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
    return rows.annotate(**_placement())


def account_names() -> QuerySet[Account]:
    """Accounts to be named, and nothing else of them: their order, `str`."""
    return Account.objects.only("platform", "name", "identifier")


def _placement() -> dict[str, Any]:
    """The figures of a `Placement` as subqueries of any query, their names after `all_`: evaluated
    once, not for each row."""

    def total(rows: QuerySet[Any], aggregate: Any) -> Any:
        one = rows.order_by().annotate(all=Value(1)).values("all").annotate(n=aggregate)
        return Coalesce(Subquery(one.values("n")), 0)

    enabled = Account.objects.filter(enabled=True)
    running = WorkerConfig.objects.filter(runtime__state=State.RUNNING)
    return {
        "all_waiting": total(enabled.exclude(SERVED), Count("pk")),
        "all_served": total(enabled.filter(SERVED), Count("pk")),
        "all_capacity": total(running, Sum("max_accounts")),
        "all_running": total(running, Count("pk")),
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
    return _why(account, account)


def _why(account: Account, row: Account | LoginSession) -> str:
    """`row` has the figures of `_placement`."""
    if not account.enabled or (account.worker and account.worker.runtime.state == State.RUNNING):
        return ""
    return Placement(**{name: getattr(row, f"all_{name}") for name in Placement.__slots__}).reason


def failing() -> QuerySet[Account]:
    """Those that `totals` counts as failing, the latest error first."""
    return accounts().filter(FAILING).order_by(F("last_error_at").desc(nulls_last=True), "-pk")


def conversations() -> QuerySet[Conversation]:
    """All conversations, the latest first, each with its account."""
    return Conversation.objects.select_related("account").defer(*OF_ACCOUNT)


def messages(conversation_id: int) -> QuerySet[Message]:
    """The messages of a conversation, the latest first."""
    return Message.objects.filter(conversation_id=conversation_id)


def deliveries() -> QuerySet[HookDelivery]:
    """Webhook deliveries, without what they hold, each with its account."""
    rows = HookDelivery.objects.select_related("account")
    return rows.defer("body", "headers", *OF_ACCOUNT)


def hook_endpoint(account_id: int) -> HookEndpoint:
    """What came to the account's webhook address; all zero when nothing did."""
    found = HookEndpoint.objects.filter(pk=account_id).first()
    return found or HookEndpoint(account_id=account_id)


def versions(kind: str, ids: Collection[int]) -> QuerySet[RecordVersion]:
    """What these records said before, the newest first."""
    return RecordVersion.objects.filter(kind=kind, record_id__in=ids)


@dataclass(frozen=True, slots=True)
class UnreadBar:
    """What is unread where: all, each platform that has accounts, the accounts that have most."""

    total: int
    platforms: Sequence[tuple[str, str, int]]  # name, label, unread
    accounts: Sequence[tuple[int, str, int]]  # id, name, unread


def unread_bar() -> UnreadBar:
    """Two queries."""
    rows = (
        Account.objects.order_by("platform").values_list("platform").annotate(n=Sum("unread_total"))
    )
    known = platforms.registry()
    each = [(name, str(known[name].label) if name in known else name, n) for name, n in rows]
    most = accounts_with_unread()[:MOST_IN_BAR]
    return UnreadBar(
        sum(n for _name, _label, n in each),
        each,
        [(account.pk, str(account), account.unread_total) for account in most],
    )


def accounts_with_unread() -> QuerySet[Account]:
    """Those with most first."""
    rows = Account.objects.filter(unread_total__gt=0).defer(*SECRETS, "cursor")
    return rows.order_by("-unread_total", "pk")


def runs(account_id: int) -> QuerySet[SyncRun]:
    """The receipts of an account, the latest first."""
    return SyncRun.objects.filter(account_id=account_id)


def standings(rows: QuerySet[Account], **more: Any) -> dict[str, Any]:
    """How many accounts there are, fail, and have stalled, as every page says; with `more` figures
    in the same query."""
    return rows.aggregate(
        accounts=Count("pk"),
        failing=Count("pk", filter=FAILING),
        stalled=Count("pk", filter=Q(stalled_since__isnull=False)),
        **more,
    )


def totals() -> dict[str, Any]:
    """What the home page shows, in one query.

    `syncing`: enabled accounts whose last check was good; `failing`: whose last one was not, or
    whose login is not.
    """
    return standings(
        Account.objects.all(),
        syncing=Count("pk", filter=SYNCING & ~FAILING),
        conversations=Coalesce(Sum("conversations_total"), 0),
        messages=Coalesce(Sum("messages_total"), 0),
        posts=Coalesce(Sum("posts_total"), 0),
        comments=Coalesce(Sum("comments_total"), 0),
        unread=Coalesce(Sum("unread_total"), 0),
    )


# --- the outbox ---------------------------------------------------------------------------------


def replies() -> QuerySet[Reply]:
    """All replies, the last first. `message_id`, `comment_echo_id`: the row that a sent one became
    once it was read back, None before (and for ever, where the platform doesn't tell us of it)."""
    rows = Reply.objects.select_related("account", "conversation", "post", "comment")
    same = {"account_id": OuterRef("account_id"), "external_id": OuterRef("external_id")}
    return rows.defer(*OF_ACCOUNT).annotate(
        message_id=Subquery(Message.objects.filter(**same).values("pk")[:1]),
        comment_echo_id=Subquery(Comment.objects.filter(**same).values("pk")[:1]),
    )


def thread_replies(target: Conversation | Post) -> QuerySet[Reply]:
    """What the thread shows beside its messages or comments, the last first: replies that wait or
    failed, those taken back that the platform is asked for, and sent ones that have not been read
    back. Each thus stands there once."""
    where = {"conversation" if isinstance(target, Conversation) else "post": target}
    waits = Q(state__in=[ReplyState.PENDING, ReplyState.FAILED]) | Q(is_asked_for=True)
    unechoed = Q(state=ReplyState.SENT, message_id=None, comment_echo_id=None)
    return replies().filter(**where).filter(waits | unechoed)


def written_by_others(target: Conversation | Post, name: str, since: datetime) -> QuerySet[Reply]:
    """Replies to it that somebody else has written since then, the last first."""
    where = {"conversation" if isinstance(target, Conversation) else "post": target}
    rows = Reply.objects.filter(**where, created_at__gte=since)
    return rows.exclude(state=ReplyState.CANCELLED).exclude(created_by__in=["", name])


def login_sessions() -> QuerySet[LoginSession]:
    """All login sessions, the last first, each with its account's worker; what people answered
    stays encrypted. `why_login_waits` then asks nothing more."""
    rows = LoginSession.objects.select_related("account__worker__runtime")
    return rows.defer(*OF_ACCOUNT, "answer").annotate(**_placement())


def why_login_waits(session: LoginSession) -> str:
    """Why no worker performs one of `login_sessions()` now; "" when one can, or it has ended."""
    if session.state not in (LoginSessionState.PENDING, LoginSessionState.SCANNED):
        return ""
    return _why(session.account, session)


# --- the books ----------------------------------------------------------------------------------


def audits(account_id: int) -> QuerySet[Audit]:
    """The audits of an account, the last first."""
    return Audit.objects.filter(account_id=account_id).defer("progress")


def gaps(account_id: int) -> QuerySet[Gap]:
    """The gaps of an account, the last found first; closed ones included."""
    return Gap.objects.filter(account_id=account_id)


def with_titles(gaps: QuerySet[Gap]) -> QuerySet[Gap]:
    """Each with `title`: that of the conversation that its `scope` names, None where it names
    something else."""
    talks = Conversation.objects.filter(
        account_id=OuterRef("account_id"), external_id=OuterRef("scope")
    )
    return gaps.annotate(title=Subquery(talks.values("title")[:1]))


def dead_letters() -> QuerySet[DeadLetter]:
    """All dead letters, the last first, without the records themselves."""
    rows = DeadLetter.objects.select_related("account")
    return rows.defer(*OF_ACCOUNT, "raw", "fixed")


@dataclass(frozen=True, slots=True)
class DeadLetterFigures:
    """How many are open, and of these, how many came within the last hour."""

    open: int
    recent: int

    @property
    def alarm(self) -> bool:
        """Whether they grow faster than `MUSTER_DEAD_LETTER_ALARM` allows."""
        return bool(self.recent >= settings.MUSTER_DEAD_LETTER_ALARM)


def dead_letter_figures(now: datetime, account_id: int | None = None) -> DeadLetterFigures:
    """Of one account, or of all. One query, from the index on open ones."""
    rows = DeadLetter.objects.filter(state=DeadLetterState.OPEN)
    if account_id is not None:
        rows = rows.filter(account_id=account_id)
    found = rows.aggregate(
        open=Count("pk"), recent=Count("pk", filter=Q(created_at__gte=now - GROWING))
    )
    return DeadLetterFigures(**found)


def growing_dead_letters(now: datetime) -> list[tuple[int, str, str, int]]:
    """(account id, its name, its platform, new ones within the hour), the most first."""
    rows = DeadLetter.objects.filter(state=DeadLetterState.OPEN, created_at__gte=now - GROWING)
    counted = rows.values("account_id", "account__identifier", "account__platform").annotate(
        n=Count("pk")
    )
    return [
        (row["account_id"], row["account__identifier"], row["account__platform"], row["n"])
        for row in counted.order_by("-n", "account_id")[:20]
    ]
