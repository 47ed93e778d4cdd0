"""Accounts, how they are given to workers, and the servers that they live on."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from lifecycle.balance import Strategy
from lifecycle.encryption import EncryptedJSONField
from lifecycle.models import WorkerConfig, choices, one_of
from sync.types import BreakerState, LoginState

LOGIN_STATES = choices(
    LoginState,
    _("not tried"),
    _("pending"),
    _("scanned"),
    _("success"),
    _("failed"),
    _("expired"),
)
STRATEGIES = choices(
    Strategy,
    _("least loaded: the worker with the fewest accounts"),
    _("round robin: each worker in turn"),
    _("sticky: the worker that has most accounts of the same platform"),
)
BREAKER_STATES = choices(
    BreakerState, _("closed: it is asked"), _("open: it is not asked"), _("half open: one tries")
)

MIN_INTERVAL_S = 5
MAX_INTERVAL_S = 86_400
# A platform that is waited on says every 60 s that there is nothing (`sync.engine.check.WAIT_S`),
# and the next renewal of leases, at most 30 s later, writes it down: earlier is no sign of a stall.
MIN_STALLED_S = 120
MIN_AUDIT_S = 300
MAX_AUDIT_S = 30 * 86_400


class Account(models.Model):
    """A messaging or social account that we watch."""

    name = models.CharField(_("name"), max_length=200, blank=True)
    platform = models.CharField(_("platform"), max_length=50)
    identifier = models.CharField(
        _("identifier"),
        max_length=500,
        help_text=_("The account's id on the platform, e.g. @sales:example.org."),
    )
    endpoint = models.CharField(
        _("endpoint"),
        max_length=500,
        blank=True,
        help_text=_("The server's address, e.g. https://matrix.example.org."),
    )
    credentials = EncryptedJSONField(_("credentials"), default=dict)
    session = EncryptedJSONField(_("session"), default=dict, editable=False)
    enabled = models.BooleanField(_("enabled"), default=True)
    interval_s = models.PositiveIntegerField(
        _("interval (s)"),
        default=30,
        validators=[MinValueValidator(MIN_INTERVAL_S), MaxValueValidator(MAX_INTERVAL_S)],
    )

    stalled_after_s = models.PositiveIntegerField(
        _("stalled after (s)"),
        default=300,
        validators=[MinValueValidator(MIN_STALLED_S), MaxValueValidator(MAX_INTERVAL_S)],
        help_text=_(
            "Without a sync for this long, or for two intervals where they are longer, the account "
            "is reported as stalled. At least 120."
        ),
    )
    audit_interval_s = models.PositiveIntegerField(
        _("audit interval (s)"),
        default=21_600,
        validators=[MinValueValidator(MIN_AUDIT_S), MaxValueValidator(MAX_AUDIT_S)],
        help_text=_("How often the platform's ids are compared with ours."),
    )

    worker = models.ForeignKey(
        WorkerConfig,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="accounts",
        verbose_name=_("worker"),
        editable=False,
    )
    epoch = models.PositiveBigIntegerField(_("epoch"), default=0, editable=False)
    next_due_at = models.DateTimeField(_("next check"), db_default=Now(), editable=False)
    # The platform asked for time (Retry-After): nothing of the account is asked before that.
    not_before = models.DateTimeField(null=True, editable=False)
    # When it is asked next, as the last check said. What is pushed makes the account due, and does
    # not bring this forward.
    asks_at = models.DateTimeField(null=True, editable=False)
    # The worker's generation that was told to check; empty when nobody has been told.
    claimed_generation = models.PositiveBigIntegerField(null=True, editable=False)

    cursor = models.TextField(_("cursor"), blank=True, editable=False)
    sequence = models.PositiveBigIntegerField(_("batches"), default=0, editable=False)

    login_state = models.CharField(
        _("login"),
        max_length=16,
        choices=LOGIN_STATES,
        default=LoginState.NONE.value,
        editable=False,
    )
    last_sync_at = models.DateTimeField(_("last sync"), null=True, editable=False)
    # The last batch that brought something; and the interval that follows from it.
    last_news_at = models.DateTimeField(_("last news"), null=True, editable=False)
    current_interval_s = models.FloatField(_("current interval (s)"), null=True, editable=False)
    watched_at = models.DateTimeField(_("watched"), null=True, editable=False)
    stalled_since = models.DateTimeField(_("stalled since"), null=True, editable=False)
    # About how many records are still to be read; empty when the platform doesn't tell.
    backlog = models.PositiveBigIntegerField(_("backlog"), null=True, editable=False)
    # Empty until it has been read as a whole for the first time.
    audit_due_at = models.DateTimeField(_("next audit"), null=True, editable=False)
    complete_until = models.DateTimeField(_("complete up to"), null=True, editable=False)
    last_error = models.TextField(_("last error"), blank=True, editable=False)
    last_error_at = models.DateTimeField(null=True, editable=False)
    # What people should see though the check goes on; over once a reading is done.
    notice = models.TextField(_("notice"), blank=True, db_default="", default="", editable=False)
    notice_at = models.DateTimeField(null=True, editable=False)
    error_count = models.PositiveIntegerField(
        _("errors"),
        default=0,
        editable=False,
        help_text=_("Failed checks since the last good one."),
    )

    conversations_total = models.PositiveBigIntegerField(
        _("conversations"), default=0, editable=False
    )
    messages_total = models.PositiveBigIntegerField(_("messages"), default=0, editable=False)
    posts_total = models.PositiveBigIntegerField(_("posts"), default=0, editable=False)
    comments_total = models.PositiveBigIntegerField(_("comments"), default=0, editable=False)
    unread_total = models.PositiveBigIntegerField(_("unread"), default=0, editable=False)

    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        ordering = ["platform", "identifier"]
        permissions = [("operate_account", "Can check accounts now and mark conversations read")]
        constraints = [
            models.UniqueConstraint(
                fields=["platform", "endpoint", "identifier"], name="account_is_there_once"
            ),
            models.CheckConstraint(
                condition=one_of("login_state", LoginState), name="login_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(interval_s__range=(MIN_INTERVAL_S, MAX_INTERVAL_S)),
                name="interval_is_in_bounds",
            ),
        ]
        indexes = [
            models.Index(fields=["next_due_at"], condition=Q(enabled=True), name="account_due")
        ]

    def __str__(self) -> str:
        return self.name or self.identifier

    @property
    def is_failing(self) -> bool:
        """As `queries.FAILING` has it: its last check failed, or its login is lost."""
        lost = self.login_state in (LoginState.FAILED, LoginState.EXPIRED)
        return self.enabled and (self.error_count > 0 or lost)

    @property
    def error_is_over(self) -> bool:
        """`last_error` is history: what was checked after it was good."""
        return bool(self.last_error) and not self.is_failing

    @property
    def present_error(self) -> str:
        """Why it is failing, "" when it is not."""
        return self.last_error if self.is_failing else ""


class Assignment(models.Model):
    """How accounts are given to workers: one row, or none as long as nobody has chosen."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    strategy = models.CharField(
        _("strategy"),
        max_length=16,
        choices=STRATEGIES,
        default=Strategy.LEAST_LOADED.value,
        help_text=_("Where the next account goes. A change moves no account that has a worker."),
    )
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("assignment of accounts")
        verbose_name_plural = _("assignment of accounts")
        default_permissions = ()
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="assignment_is_there_once"),
            models.CheckConstraint(
                condition=one_of("strategy", Strategy), name="strategy_is_known"
            ),
        ]

    def __str__(self) -> str:
        return str(self.get_strategy_display())


class PlatformServer(models.Model):
    """One server of a platform, and whether it is asked at all: its circuit breaker [S2]."""

    platform = models.CharField(_("platform"), max_length=50)
    endpoint = models.CharField(_("endpoint"), max_length=500, blank=True)
    state = models.CharField(
        _("state"), max_length=16, choices=BREAKER_STATES, default=BreakerState.CLOSED.value
    )
    failures = models.PositiveIntegerField(
        _("failures"), default=0, help_text=_("In a row, over all its accounts.")
    )
    opened_at = models.DateTimeField(_("opened"), null=True)
    retry_at = models.DateTimeField(_("asked again"), null=True)
    # Half open, nobody but this account asks.
    tried_by = models.ForeignKey(
        Account, on_delete=models.SET_NULL, null=True, db_index=False, related_name="+"
    )
    last_error = models.TextField(_("last error"), blank=True)
    updated_at = models.DateTimeField(_("updated"), db_default=Now())

    class Meta:
        verbose_name = _("platform server")
        verbose_name_plural = _("platform servers")
        ordering = ["platform", "endpoint"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["platform", "endpoint"], name="server_is_there_once"),
            models.CheckConstraint(
                condition=one_of("state", BreakerState), name="breaker_state_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.platform} {self.endpoint}".strip()
