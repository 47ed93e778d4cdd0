"""The books: receipts, refused records, known gaps, and audits that prove the store complete."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from lifecycle.encryption import EncryptedJSONField
from lifecycle.models import choices, one_of
from sync.models.accounts import Account
from sync.models.records import RECORD_KINDS
from sync.types import AuditOutcome, DeadLetterState, RawShape, RecordKind, RunOutcome

OUTCOMES = choices(RunOutcome, _("committed"), _("failed"))
RAW_SHAPES = choices(RawShape, _("as the platform sent it"), _("our record"))
DEAD_LETTER_STATES = choices(DeadLetterState, _("open"), _("replayed"), _("discarded"))
AUDIT_OUTCOMES = choices(AuditOutcome, _("running"), _("complete"), _("failed"))


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
    size = models.PositiveBigIntegerField(_("bytes"), default=0)
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
    identity = models.CharField(max_length=500)  # the external id, or a digest of the raw record
    shape = models.CharField(
        _("shape"), max_length=16, choices=RAW_SHAPES, default=RawShape.PLATFORM.value
    )
    raw = EncryptedJSONField(_("raw"))
    # What a person made of it: {"kind": …, "record": {…}} in our record's shape; replayed instead.
    fixed = EncryptedJSONField(_("repaired record"), null=True)
    size = models.PositiveBigIntegerField(_("bytes"), default=0)
    error = models.TextField(_("error"))
    state = models.CharField(
        _("state"), max_length=16, choices=DEAD_LETTER_STATES, default=DeadLetterState.OPEN.value
    )
    replays = models.PositiveIntegerField(_("replays"), default=0)
    resolved_at = models.DateTimeField(_("resolved"), null=True)
    resolved_by = models.CharField(_("resolved by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now())

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        ordering = ["-id"]
        permissions = [("resolve_deadletter", "Can fix, replay and discard dead letters")]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "kind", "identity"], name="dead_letter_is_there_once"
            ),
            models.CheckConstraint(condition=one_of("shape", RawShape), name="shape_is_known"),
            models.CheckConstraint(
                condition=one_of("state", DeadLetterState), name="dead_letter_state_is_known"
            ),
        ]
        indexes = [
            models.Index(
                fields=["account", "-id"], condition=Q(state="open"), name="dead_letter_open"
            ),
            models.Index(fields=["created_at"], name="dead_letter_created"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.external_id}".strip()


# A gap that nobody has accepted as lost; in no case is what is missing there.
OPEN_GAP = Q(closed_at__isnull=True, accepted_at__isnull=True)
ACCEPTED_GAP = Q(closed_at__isnull=True, accepted_at__isnull=False)


class Gap(models.Model):
    """A stretch that the platform has and we don't, with its two ends [S9].

    Where the platform keeps no copy nothing ever closes it: a person accepts it as lost.
    """

    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="gaps", verbose_name=_("account")
    )
    key = models.CharField(max_length=1000)
    scope = models.CharField(_("where"), max_length=500, blank=True)
    newer_end = models.TextField(_("newer end"), blank=True)
    older_end = models.TextField(_("older end"), blank=True)
    reason = models.TextField(_("reason"), blank=True)
    found_at = models.DateTimeField(_("found"), db_default=Now())
    closed_at = models.DateTimeField(_("closed"), null=True)
    accepted_at = models.DateTimeField(_("accepted as lost"), null=True, editable=False)
    accepted_by = models.CharField(
        _("accepted by"), max_length=150, blank=True, db_default="", default="", editable=False
    )

    class Meta:
        verbose_name = _("gap")
        verbose_name_plural = _("gaps")
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["account", "key"],
                condition=Q(closed_at__isnull=True),
                name="gap_is_open_once",
            )
        ]
        indexes = [
            models.Index(
                fields=["closed_at"], condition=Q(closed_at__isnull=False), name="gap_closed"
            )
        ]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.scope or self.key}"


class Audit(models.Model):
    """One comparison of the platform's ids with ours [S9]."""

    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="audits",
        verbose_name=_("account"),
    )
    outcome = models.CharField(_("outcome"), max_length=16, choices=AUDIT_OUTCOMES)
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"), null=True)
    listed = models.PositiveBigIntegerField(_("compared"), default=0)
    missing = models.PositiveBigIntegerField(_("missing"), default=0)
    outdated = models.PositiveBigIntegerField(_("outdated"), default=0)
    vanished = models.PositiveBigIntegerField(_("gone from the platform"), default=0)
    repaired = models.PositiveBigIntegerField(_("repaired"), default=0)
    # How far it came: {"<kind>/<scope>": {"since": the lower end of the last window that is done,
    # "place": what the adapter said with it}}.
    progress = models.JSONField(default=dict, editable=False)
    # Parts in a row that the platform did not answer, and that came no further.
    failures = models.PositiveSmallIntegerField(db_default=0, default=0, editable=False)
    error = models.TextField(_("error"), blank=True)
    asked_by = models.CharField(
        _("asked by"), max_length=150, blank=True, help_text=_("Empty: by schedule.")
    )
    started_at = models.DateTimeField(_("started"), db_default=Now())
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("audit")
        verbose_name_plural = _("audits")
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=one_of("outcome", AuditOutcome), name="audit_outcome_is_known"
            )
        ]
        indexes = [
            models.Index(fields=["account", "-id"], name="audit_of_account"),
            models.Index(fields=["finished_at"], name="audit_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.outcome}"


class SeenVersion(models.Model):
    """The platform's own text for the version that we hold of a record, as an audit found it [S9].

    Kept for platforms whose lists tell versions, so that the next audit need not fetch the record
    to know that it is still the same.
    """

    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="+",
        verbose_name=_("account"),
    )
    kind = models.CharField(_("kind"), max_length=16, choices=RECORD_KINDS)
    record_id = models.PositiveBigIntegerField(_("record"))
    version = models.TextField(_("version"))

    class Meta:
        verbose_name = _("seen version")
        verbose_name_plural = _("seen versions")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["account", "kind", "record_id"], name="version_is_seen_once"
            ),
            models.CheckConstraint(
                condition=one_of("kind", RecordKind), name="seen_version_kind_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.record_id}: {self.version}"
