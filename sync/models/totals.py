"""Totals that only rise, for metrics: receipts are pruned, these stay [S8]."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class SyncTotal(models.Model):
    """What the checks of one worker on one platform have done since the beginning.

    Counted in the worker's memory and added twice a minute: telemetry. What a killed worker had not
    added is missing here, and nowhere else: the books are the receipts.
    """

    platform = models.CharField(_("platform"), max_length=50)
    worker_id = models.CharField(_("worker"), max_length=63)
    syncs = models.PositiveBigIntegerField(_("syncs"), default=0)
    batches = models.PositiveBigIntegerField(_("batches"), default=0)
    new = models.PositiveBigIntegerField(_("new"), default=0)
    changed = models.PositiveBigIntegerField(_("changed"), default=0)
    same = models.PositiveBigIntegerField(_("same"), default=0)
    refused = models.PositiveBigIntegerField(_("refused"), default=0)
    size = models.PositiveBigIntegerField(_("bytes"), default=0)
    errors = models.PositiveBigIntegerField(_("errors"), default=0)
    stale = models.PositiveBigIntegerField(_("stale epochs"), default=0)
    last_success_at = models.DateTimeField(_("last success"), null=True)

    class Meta:
        verbose_name = _("sync total")
        verbose_name_plural = _("sync totals")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["platform", "worker_id"], name="total_is_there_once")
        ]

    def __str__(self) -> str:
        return f"{self.worker_id} {self.platform}"
