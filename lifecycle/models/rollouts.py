"""Rolling restarts [L8]."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from lifecycle.models.choices import ROLLOUT_STATES, STEP_STATES, one_of
from lifecycle.models.configs import WorkerConfig
from lifecycle.types import STOP_TIMEOUT_MS, RolloutState, StepState


class Rollout(models.Model):
    """A rolling restart: worker after worker, never more at a time than its limits allow [L8]."""

    state = models.CharField(
        _("state"), max_length=16, choices=ROLLOUT_STATES, default=RolloutState.RUNNING.value
    )
    max_surge = models.PositiveIntegerField(
        _("max. surge"),
        default=1,
        validators=[MaxValueValidator(1000)],
        help_text=_("Workers that may have a second process at a time: replaced before retired."),
    )
    max_unavailable = models.PositiveIntegerField(
        _("max. unavailable"),
        default=0,
        validators=[MaxValueValidator(1000)],
        help_text=_("Workers that may be down at a time: stopped, then started."),
    )
    timeout_ms = models.PositiveIntegerField(
        _("time to stop (ms)"),
        default=STOP_TIMEOUT_MS,
        validators=[MinValueValidator(1000), MaxValueValidator(3_600_000)],
    )
    reason = models.CharField(_("reason"), max_length=1000, blank=True)
    actor = models.CharField(_("by"), max_length=200)
    created_at = models.DateTimeField(_("created"), db_default=Now())
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("rolling restart")
        verbose_name_plural = _("rolling restarts")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=one_of("state", RolloutState), name="rollout_state_is_known"
            ),
            models.CheckConstraint(
                condition=Q(max_surge__gt=0) | Q(max_unavailable__gt=0), name="rollout_can_proceed"
            ),
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="running"), name="one_rollout_runs_at_a_time"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk} ({self.get_state_display()})"

    def clean(self) -> None:
        """Raises `ValidationError` when the limits would let nothing happen."""
        if self.max_surge == 0 and self.max_unavailable == 0:
            message = _("With both limits at 0 no worker could ever be restarted.")
            raise ValidationError({"max_surge": ValidationError(message, code="no_progress")})


class RolloutStep(models.Model):
    """One worker of a rolling restart."""

    rollout = models.ForeignKey(
        Rollout, on_delete=models.CASCADE, related_name="steps", verbose_name=_("rolling restart")
    )
    config = models.ForeignKey(
        WorkerConfig, on_delete=models.CASCADE, related_name="+", verbose_name=_("worker")
    )
    state = models.CharField(
        _("state"), max_length=16, choices=STEP_STATES, default=StepState.PENDING.value
    )
    target_generation = models.PositiveBigIntegerField(_("target generation"), null=True)
    is_surge = models.BooleanField(_("replaced before retired"), default=True)
    message = models.CharField(_("message"), max_length=1000, blank=True)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("step")
        verbose_name_plural = _("steps")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["rollout", "config"], name="worker_is_in_rollout_once"),
            models.CheckConstraint(
                condition=one_of("state", StepState), name="step_state_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.config.worker_id}: {self.get_state_display()}"
