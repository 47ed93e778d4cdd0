"""Workers as people want them [L1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from lifecycle.models.choices import DEPLOYMENT_TYPES, POOLS, RESTART_MODES, one_of
from lifecycle.types import RESERVED_WORKER_IDS, WORKER_ID, DeploymentType, Pool, RestartMode
from lifecycle.validators import validate_env_variables, validate_options

if TYPE_CHECKING:
    from lifecycle.models.runtime import WorkerRuntime


def default_queues() -> list[str]:
    return ["default"]


class WorkerConfig(models.Model):
    """A worker as people want it. Old versions are kept and can be restored."""

    worker_id = models.CharField(
        _("worker id"),
        max_length=63,
        unique=True,
        validators=[
            RegexValidator(
                WORKER_ID,
                _(
                    "Use lower-case letters, digits, '.', '_' and '-'; "
                    "begin and end with a letter or digit."
                ),
            )
        ],
        help_text=_("Unique, for example worker-1. It names the Celery node and its queue."),
    )
    name = models.CharField(_("name"), max_length=200, blank=True)
    description = models.TextField(_("description"), blank=True, max_length=2000)
    deployment_type = models.CharField(
        _("deployment type"),
        max_length=16,
        choices=DEPLOYMENT_TYPES,
        default=DeploymentType.LOCAL.value,
    )
    host = models.CharField(_("host"), max_length=255, default="localhost")
    port = models.PositiveIntegerField(
        _("port"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(65535)],
        help_text=_("The worker's own health and metrics port."),
    )
    max_accounts = models.PositiveIntegerField(
        _("max. accounts"),
        default=10,
        validators=[MinValueValidator(0), MaxValueValidator(100_000)],
    )
    max_memory_mb = models.PositiveIntegerField(
        _("max. memory (MB)"),
        default=2048,
        validators=[MinValueValidator(32), MaxValueValidator(4_194_304)],
    )
    cpu_cores = models.FloatField(
        _("CPU cores"), default=2, validators=[MinValueValidator(0.01), MaxValueValidator(4096)]
    )
    pool = models.CharField(_("pool"), max_length=16, choices=POOLS, default=Pool.THREADS.value)
    concurrency = models.PositiveIntegerField(
        _("concurrency"),
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text=_("Threads or processes that run tasks at the same time."),
    )
    queues = ArrayField(
        models.CharField(max_length=100, validators=[RegexValidator(r"^[A-Za-z0-9._-]+$")]),
        verbose_name=_("queues"),
        default=default_queues,
        blank=True,
        size=50,
        help_text=_("Besides the worker's own queue, which it always consumes."),
    )
    env_variables = models.JSONField(
        _("environment variables"),
        default=dict,
        blank=True,
        help_text=_("A JSON object of strings."),
    )
    command_args = ArrayField(
        models.CharField(max_length=500),
        verbose_name=_("command arguments"),
        default=list,
        blank=True,
        size=50,
        help_text=_("Further arguments of `celery worker`, one each."),
    )
    working_directory = models.CharField(_("working directory"), max_length=1000, blank=True)
    deployment_options = models.JSONField(
        _("deployment options"),
        default=dict,
        blank=True,
        help_text=_(
            "What the deployment type needs: SSH port, user and key; image, network, volumes; "
            "namespace, resources."
        ),
    )
    auto_start = models.BooleanField(_("auto start"), default=False)
    auto_restart = models.BooleanField(_("auto restart"), default=True)
    restart_mode = models.CharField(
        _("restart after"),
        max_length=16,
        choices=RESTART_MODES,
        default=RestartMode.ALWAYS.value,
        help_text=_("Which exits nobody asked for are followed by a restart."),
    )
    restart_delay_ms = models.PositiveIntegerField(
        _("restart delay (ms)"), default=5000, validators=[MaxValueValidator(3_600_000)]
    )
    max_restart_attempts = models.PositiveIntegerField(
        _("max. restart attempts"), default=3, validators=[MaxValueValidator(1_000_000)]
    )
    max_restart_delay_ms = models.PositiveIntegerField(
        _("max. restart delay (ms)"),
        default=300_000,
        validators=[MaxValueValidator(86_400_000)],
        help_text=_("The delay doubles with each attempt, up to this."),
    )
    restart_window_s = models.PositiveIntegerField(
        _("restart window (s)"),
        default=3600,
        validators=[MaxValueValidator(2_592_000)],
        help_text=_(
            "Attempts count together for this long, then anew; 0: until a run is stable. Choose it "
            "longer than the delays."
        ),
    )
    stable_after_s = models.PositiveIntegerField(
        _("stable after (s)"),
        default=60,
        validators=[MinValueValidator(1), MaxValueValidator(86_400)],
        help_text=_("A run of this length forgets earlier restart attempts."),
    )
    heartbeat_timeout_s = models.PositiveIntegerField(
        _("heartbeat timeout (s)"),
        default=30,
        validators=[MinValueValidator(15), MaxValueValidator(3600)],
        help_text=_("A worker beats every 10 s; one that is silent for longer is replaced."),
    )
    log_max_mb = models.PositiveIntegerField(
        _("log file size (MB)"),
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(1024)],
        help_text=_("A log file that has reached this size is put aside and a new one begun."),
    )
    log_files = models.PositiveIntegerField(
        _("log files kept"),
        default=5,
        validators=[MinValueValidator(2), MaxValueValidator(100)],
        help_text=_("Of each stream, the one that is written included; the oldest is removed."),
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    spawn_version = models.PositiveIntegerField(
        default=1, editable=False, help_text="Rises with changes that only a restart brings about."
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    history = HistoricalRecords(
        verbose_name=_("config version"), verbose_name_plural=_("config versions")
    )

    runtime: WorkerRuntime

    class Meta:
        verbose_name = _("worker config")
        verbose_name_plural = _("worker configs")
        ordering = ["worker_id"]
        permissions = [("operate_worker", "Can start, stop and restart workers")]
        constraints = [
            models.CheckConstraint(
                condition=Q(worker_id__regex=WORKER_ID.pattern), name="worker_id_is_a_name"
            ),
            models.CheckConstraint(
                condition=one_of("deployment_type", DeploymentType), name="deployment_type_is_known"
            ),
            models.CheckConstraint(condition=one_of("pool", Pool), name="pool_is_known"),
            models.CheckConstraint(
                condition=one_of("restart_mode", RestartMode), name="restart_mode_is_known"
            ),
            models.CheckConstraint(
                condition=Q(port__isnull=True) | Q(port__range=(1, 65535)), name="port_is_a_port"
            ),
            models.CheckConstraint(condition=Q(concurrency__gte=1), name="concurrency_is_positive"),
            models.CheckConstraint(condition=Q(cpu_cores__gt=0), name="cpu_cores_is_positive"),
            models.CheckConstraint(
                condition=Q(max_memory_mb__gte=32), name="max_memory_mb_is_usable"
            ),
            models.CheckConstraint(
                condition=Q(log_max_mb__gte=1, log_files__gte=2), name="log_rotation_is_usable"
            ),
        ]

    def __str__(self) -> str:
        return self.worker_id

    def clean(self) -> None:
        """Raises `ValidationError` naming a reserved id and the free-form fields that are wrong."""
        errors = {}
        if self._state.adding and self.worker_id in RESERVED_WORKER_IDS:
            errors["worker_id"] = ValidationError(
                _("'%(name)s' is reserved: it is a part of addresses. Choose another name."),
                code="reserved",
                params={"name": self.worker_id},
            )
        for name, validate in (
            ("env_variables", validate_env_variables),
            ("deployment_options", validate_options),
        ):
            try:
                validate(getattr(self, name))
            except ValidationError as invalid:
                errors[name] = invalid
        if errors:
            raise ValidationError(errors)

    @property
    def own_queue(self) -> str:
        """The queue that only this worker consumes."""
        return own_queue(self.worker_id)


def own_queue(worker_id: str) -> str:
    return f"worker.{worker_id}"
