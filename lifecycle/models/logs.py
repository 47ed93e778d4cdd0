"""What happened to workers [L2]."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from lifecycle.models.choices import LEVELS, STATES
from lifecycle.models.configs import WorkerConfig
from lifecycle.types import Level


class WorkerLog(models.Model):
    """What happened to a worker: one row for each transition, with its cause [L2]."""

    config = models.ForeignKey(
        WorkerConfig,
        on_delete=models.CASCADE,
        related_name="logs",
        verbose_name=_("worker"),
        db_index=False,  # an index of several columns begins with it
    )
    time = models.DateTimeField(_("time"), db_default=Now())
    level = models.CharField(_("level"), max_length=16, choices=LEVELS, default=Level.INFO.value)
    event = models.CharField(_("event"), max_length=32)
    from_state = models.CharField(_("from"), max_length=16, choices=STATES, blank=True)
    to_state = models.CharField(_("to"), max_length=16, choices=STATES, blank=True)
    generation = models.PositiveBigIntegerField(_("generation"), default=0)
    message = models.TextField(_("message"))
    actor = models.CharField(_("by"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("worker log")
        verbose_name_plural = _("worker logs")
        ordering = ["-id"]
        indexes = [models.Index(fields=["config", "-id"]), models.Index(fields=["-time"])]

    def __str__(self) -> str:
        return f"{self.time:%Y-%m-%d %H:%M:%S} {self.message}"
