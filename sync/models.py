"""Accounts and what they hold. Only `sync.store` writes conversations, messages, posts, comments
and cursors; only `sync.services` changes the rest."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from lifecycle.balance import Strategy
from lifecycle.encryption import EncryptedJSONField
from lifecycle.models import WorkerConfig, choices, one_of
from sync.types import Direction, LoginState, RunOutcome

LOGIN_STATES = choices(
    LoginState,
    _("not tried"),
    _("pending"),
    _("scanned"),
    _("success"),
    _("failed"),
    _("expired"),
)
DIRECTIONS = choices(Direction, _("inbound"), _("outbound"))
OUTCOMES = choices(RunOutcome, _("committed"), _("failed"))

STRATEGIES = choices(
    Strategy,
    _("least loaded: the worker with the fewest accounts"),
    _("round robin: each worker in turn"),
    _("sticky: the worker that has most accounts of the same platform"),
)

MIN_INTERVAL_S = 5
MAX_INTERVAL_S = 86_400


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
    last_error = models.TextField(_("last error"), blank=True, editable=False)
    last_error_at = models.DateTimeField(null=True, editable=False)
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


class Conversation(models.Model):
    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="conversations",
        verbose_name=_("account"),
    )
    external_id = models.CharField(_("external id"), max_length=500)
    title = models.CharField(_("title"), max_length=500, blank=True)
    is_group = models.BooleanField(_("group"), default=False)
    last_message_at = models.DateTimeField(_("last message at"), null=True)
    last_message_text = models.CharField(_("last message"), max_length=300, blank=True)
    last_sender_name = models.CharField(_("last sender"), max_length=500, blank=True)
    messages_total = models.PositiveBigIntegerField(_("messages"), default=0)
    unread_count = models.PositiveIntegerField(_("unread"), default=0)
    created_at = models.DateTimeField(_("created"), db_default=Now())
    updated_at = models.DateTimeField(_("updated"), db_default=Now())

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        ordering = [F("last_message_at").desc(nulls_last=True), "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "external_id"], name="conversation_is_there_once"
            )
        ]
        indexes = [
            models.Index(
                F("last_message_at").desc(nulls_last=True),
                F("id").desc(),
                name="conversation_latest",
            )
        ]

    def __str__(self) -> str:
        return self.title or self.external_id


class Message(models.Model):
    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="+",
        verbose_name=_("account"),
    )
    conversation = models.ForeignKey(
        Conversation,
        on_delete=models.CASCADE,
        related_name="messages",
        verbose_name=_("conversation"),
    )
    external_id = models.CharField(_("external id"), max_length=500)
    sender_id = models.CharField(_("sender id"), max_length=500)
    sender_name = models.CharField(_("sender"), max_length=500, blank=True)
    text = models.TextField(_("text"), blank=True)
    content_type = models.CharField(_("content type"), max_length=100, default="text")
    attachments = models.JSONField(_("attachments"), default=list)
    direction = models.CharField(_("direction"), max_length=16, choices=DIRECTIONS)
    sent_at = models.DateTimeField(_("sent"))
    edited_at = models.DateTimeField(_("edited"), null=True)
    is_deleted = models.BooleanField(_("deleted"), default=False)
    is_read = models.BooleanField(_("read"), default=False)
    stored_at = models.DateTimeField(_("stored"), db_default=Now())

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-sent_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "external_id"], name="message_is_there_once"
            ),
            models.CheckConstraint(
                condition=one_of("direction", Direction), name="direction_is_known"
            ),
        ]
        indexes = [
            models.Index(fields=["conversation", "-sent_at", "-id"]),
            models.Index(
                fields=["conversation"],
                condition=Q(direction="inbound", is_read=False),
                name="message_unread",
            ),
        ]

    def __str__(self) -> str:
        return self.text[:80]


class Post(models.Model):
    """A work that an account published [S14]."""

    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="posts",
        verbose_name=_("account"),
    )
    external_id = models.CharField(_("external id"), max_length=500)
    author_id = models.CharField(_("author id"), max_length=500)
    author_name = models.CharField(_("author"), max_length=500, blank=True)
    title = models.CharField(_("title"), max_length=1000, blank=True)
    text = models.TextField(_("text"), blank=True)
    url = models.CharField(_("address"), max_length=2000, blank=True)
    published_at = models.DateTimeField(_("published"))
    stored_at = models.DateTimeField(_("stored"), db_default=Now())

    class Meta:
        verbose_name = _("post")
        verbose_name_plural = _("posts")
        ordering = ["-published_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "external_id"], name="post_is_there_once")
        ]

    def __str__(self) -> str:
        return self.title or self.external_id


class Comment(models.Model):
    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="+",
        verbose_name=_("account"),
    )
    post = models.ForeignKey(
        Post,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="comments",
        verbose_name=_("post"),
    )
    external_id = models.CharField(_("external id"), max_length=500)
    parent_external_id = models.CharField(_("in reply to"), max_length=500, blank=True)
    author_id = models.CharField(_("author id"), max_length=500)
    author_name = models.CharField(_("author"), max_length=500, blank=True)
    text = models.TextField(_("text"), blank=True)
    direction = models.CharField(_("direction"), max_length=16, choices=DIRECTIONS)
    published_at = models.DateTimeField(_("published"))
    stored_at = models.DateTimeField(_("stored"), db_default=Now())

    class Meta:
        verbose_name = _("comment")
        verbose_name_plural = _("comments")
        ordering = ["-published_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "external_id"], name="comment_is_there_once"
            ),
            models.CheckConstraint(
                condition=one_of("direction", Direction), name="comment_direction_is_known"
            ),
        ]
        indexes = [models.Index(fields=["post", "-published_at"])]

    def __str__(self) -> str:
        return self.text[:80]


class SyncRun(models.Model):
    """The receipt of one batch, or the failure of one check.

    `read = new + changed + same + refused`.
    """

    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="runs",
        verbose_name=_("account"),
    )
    sequence = models.PositiveBigIntegerField(_("sequence"), null=True)
    epoch = models.PositiveBigIntegerField(_("epoch"))
    worker_id = models.CharField(_("worker"), max_length=63, blank=True)
    outcome = models.CharField(_("outcome"), max_length=16, choices=OUTCOMES)
    read = models.PositiveIntegerField(_("read"), default=0)
    new = models.PositiveIntegerField(_("new"), default=0)
    changed = models.PositiveIntegerField(_("changed"), default=0)
    same = models.PositiveIntegerField(_("same"), default=0)
    refused = models.PositiveIntegerField(_("refused"), default=0)
    duration_ms = models.FloatField(_("duration (ms)"), default=0)
    error = models.TextField(_("error"), blank=True)
    finished_at = models.DateTimeField(_("finished"), db_default=Now())

    class Meta:
        verbose_name = _("sync run")
        verbose_name_plural = _("sync runs")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "sequence"], name="sequence_is_there_once"),
            models.CheckConstraint(
                condition=one_of("outcome", RunOutcome), name="outcome_is_known"
            ),
            models.CheckConstraint(
                condition=Q(read=F("new") + F("changed") + F("same") + F("refused")),
                name="counts_add_up",
            ),
        ]
        indexes = [models.Index(fields=["account", "-id"])]

    def __str__(self) -> str:
        return f"{self.account_id}/{self.sequence}: {self.outcome}"


class DeadLetter(models.Model):
    """A record that did not validate, kept raw until somebody repairs or replays it [S6]."""

    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="dead_letters", verbose_name=_("account")
    )
    kind = models.CharField(_("kind"), max_length=50)
    external_id = models.CharField(_("external id"), max_length=500, blank=True)
    raw = EncryptedJSONField(_("raw"))
    error = models.TextField(_("error"))
    created_at = models.DateTimeField(_("created"), db_default=Now())

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.external_id}: {self.error[:80]}"
