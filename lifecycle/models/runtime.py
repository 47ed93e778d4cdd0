"""Workers as they are [L2, L3]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from lifecycle.models.choices import STATES, WISHES, one_of
from lifecycle.models.configs import WorkerConfig
from lifecycle.types import STOP_TIMEOUT_MS, State, Wish

if TYPE_CHECKING:
    from lifecycle.models.logs import WorkerLog


class WorkerRuntime(models.Model):
    """A worker as it is. Only `lifecycle.services` writes here."""

    config = models.OneToOneField(
        WorkerConfig,
        on_delete=models.CASCADE,
        related_name="runtime",
        primary_key=True,
        verbose_name=_("worker"),
    )

    desired_state = models.CharField(
        _("desired state"), max_length=16, choices=WISHES, default=Wish.STOPPED.value
    )
    wanted_generation = models.PositiveBigIntegerField(
        _("wanted generation"),
        default=0,
        help_text=_("A restart is a wish for a newer generation."),
    )
    replace_first = models.BooleanField(default=True, editable=False)
    stop_graceful = models.BooleanField(default=True, editable=False)
    stop_timeout_ms = models.PositiveIntegerField(default=STOP_TIMEOUT_MS, editable=False)

    state = models.CharField(_("state"), max_length=16, choices=STATES, default=State.STOPPED.value)
    reason = models.CharField(_("reason"), max_length=1000, blank=True)
    generation = models.PositiveBigIntegerField(_("generation"), default=0)
    last_generation = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="The newest generation that was ever claimed."
    )
    spawn_version = models.PositiveIntegerField(
        default=0, editable=False, help_text="The config's spawn version that runs."
    )

    code_version = models.CharField(
        max_length=64, blank=True, editable=False, help_text="The code that runs."
    )
    loaded_code = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        help_text="The code that a new process would run.",
    )

    # While a restart replaces before it retires [L8], a second process belongs to the worker: first
    # the successor, not ready yet, then the one that retires.
    successor_generation = models.PositiveBigIntegerField(null=True, editable=False)
    successor_process_id = models.PositiveBigIntegerField(null=True, editable=False)
    successor_started_at = models.DateTimeField(null=True, editable=False)
    successor_spawn_version = models.PositiveIntegerField(default=0, editable=False)
    successor_code_version = models.CharField(max_length=64, blank=True, editable=False)
    retiring_generation = models.PositiveBigIntegerField(null=True, editable=False)
    retiring_process_id = models.PositiveBigIntegerField(null=True, editable=False)
    retiring_since = models.DateTimeField(null=True, editable=False)

    process_id = models.PositiveBigIntegerField(_("process id"), null=True)
    container_id = models.CharField(_("container id"), max_length=128, blank=True)
    pod_name = models.CharField(_("pod name"), max_length=253, blank=True)

    started_at = models.DateTimeField(_("started"), null=True)
    ready_at = models.DateTimeField(_("ready"), null=True)
    stopped_at = models.DateTimeField(_("stopped"), null=True)
    stopping_since = models.DateTimeField(null=True, editable=False)
    last_heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True)

    cpu_usage = models.FloatField(_("CPU %"), default=0)
    memory_usage_mb = models.FloatField(_("memory (MB)"), default=0)
    assigned_accounts = models.PositiveIntegerField(_("assigned accounts"), default=0)
    active_tasks = models.PositiveIntegerField(_("active tasks"), default=0)
    tasks_total = models.PositiveBigIntegerField(_("tasks"), default=0)
    error_count = models.PositiveBigIntegerField(_("errors"), default=0)
    last_error = models.TextField(_("last error"), blank=True)
    last_error_at = models.DateTimeField(null=True, editable=False)

    consumed_queues = ArrayField(
        models.CharField(max_length=255), verbose_name=_("consumed queues"), default=list
    )
    missing_queues = ArrayField(
        models.CharField(max_length=255),
        verbose_name=_("missing queues"),
        default=list,
        help_text=_("Queues that it should consume and does not."),
    )
    unfetched_queues = ArrayField(
        models.CharField(max_length=255),
        verbose_name=_("unfetched queues"),
        default=list,
        help_text=_("Not empty, and nothing is fetched although there are free slots."),
    )
    is_stuck = models.BooleanField(default=False, editable=False)
    condemned = models.CharField(
        _("being replaced because"), max_length=500, blank=True, editable=False
    )
    restart_attempts = models.PositiveIntegerField(
        _("restart attempts"), default=0, help_text=_("Restarts since the last stable run.")
    )
    attempts_since = models.DateTimeField(null=True, editable=False)
    restart_at = models.DateTimeField(_("next restart"), null=True)
    restart_count = models.PositiveIntegerField(_("restarts"), default=0)
    last_restart_at = models.DateTimeField(_("last restart"), null=True)
    exit_code = models.BigIntegerField(_("exit code"), null=True)
    exit_signal = models.CharField(_("exit signal"), max_length=32, blank=True)
    exit_text = models.CharField(_("last exit"), max_length=500, blank=True)

    worker_version = models.CharField(_("worker version"), max_length=64, blank=True)
    python_version = models.CharField(_("Python version"), max_length=64, blank=True)
    celery_version = models.CharField(_("Celery version"), max_length=64, blank=True)

    # What the transaction that holds the row's lock will write when it ends (`services.rows`).
    gathered: list[WorkerLog] | None = None
    row_version: str  # of the row that was read (`services.row_sql`)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        ordering = ["config__worker_id"]
        constraints = [
            models.CheckConstraint(condition=one_of("state", State), name="state_is_known"),
            models.CheckConstraint(condition=one_of("desired_state", Wish), name="wish_is_known"),
            models.CheckConstraint(
                condition=~Q(state__in=[State.STOPPED, State.ERROR, State.CRASHED])
                | Q(process_id__isnull=True),
                name="no_process_when_not_up",
            ),
            models.CheckConstraint(
                condition=Q(successor_generation__isnull=True)
                | Q(successor_generation__gt=F("generation"), state=State.RUNNING),
                name="only_a_running_worker_has_a_successor",
            ),
            models.CheckConstraint(
                condition=Q(last_generation__gte=F("generation")), name="generations_rise"
            ),
        ]

    def __str__(self) -> str:
        return self.config.worker_id

    @property
    def is_outdated(self) -> bool:
        """What runs was started with an older config or code: a restart brings it up to date."""
        return self.process_id is not None and (
            self.spawn_version < self.config.spawn_version
            or "" != self.code_version != self.loaded_code != ""
        )
