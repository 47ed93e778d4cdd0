"""The history of workers in figures [L17]."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from lifecycle.models.configs import WorkerConfig


class WorkerMetric(models.Model):
    """One point of a worker's history [L17], the mean of `step_s` seconds from `time` on.

    The two totals are those of the runtime at the end of the step: counts are differences, so that
    a lost sample loses none. Only `lifecycle.services.metrics` writes here; see `lifecycle.series`.
    """

    pk = models.CompositePrimaryKey("config_id", "step_s", "time")
    config = models.ForeignKey(
        WorkerConfig, on_delete=models.CASCADE, related_name="metrics", db_index=False
    )
    step_s = models.PositiveSmallIntegerField()
    time = models.DateTimeField()
    cpu_usage = models.FloatField()
    memory_mb = models.FloatField()
    active_tasks = models.FloatField()
    tasks_total = models.PositiveBigIntegerField()
    errors_total = models.PositiveBigIntegerField()

    class Meta:
        verbose_name = _("worker metric")
        verbose_name_plural = _("worker metrics")
        default_permissions = ("view",)
        indexes = [models.Index(fields=["step_s", "time"], name="metric_by_time")]

    def __str__(self) -> str:
        return f"{self.config_id} {self.time:%Y-%m-%d %H:%M:%S}"
