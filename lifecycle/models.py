"""Workers: what people configured, what is, and what happened [L1, L2, L3]."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from simple_history.models import HistoricalRecords

from lifecycle.types import (
    RESERVED_WORKER_IDS,
    WORKER_ID,
    DeploymentType,
    Level,
    Pool,
    RestartMode,
    RolloutState,
    State,
    StepState,
    Wish,
)
from lifecycle.validators import validate_env_variables, validate_options


def choices(enum: Any, *labels: Any) -> list[tuple[str, Any]]:
    """Pairs for a Django field, one label for each member in order."""
    return [(member.value, label) for member, label in zip(enum, labels, strict=True)]


STATES = choices(
    State, _("stopped"), _("starting"), _("running"), _("stopping"), _("error"), _("crashed")
)
WISHES = choices(Wish, _("running"), _("stopped"))
LEVELS = choices(Level, _("debug"), _("info"), _("warning"), _("error"))
POOLS = choices(Pool, _("threads"), _("prefork (processes)"), _("solo"))
RESTART_MODES = choices(RestartMode, _("every exit"), _("a failure"), _("never"))
ROLLOUT_STATES = choices(RolloutState, _("running"), _("done"), _("failed"), _("aborted"))
STEP_STATES = choices(StepState, _("pending"), _("running"), _("done"), _("failed"), _("skipped"))
DEPLOYMENT_TYPES = choices(DeploymentType, _("local"), _("SSH"), _("Docker"), _("Kubernetes"))


def one_of(field: str, enum: Any) -> Q:
    return Q(**{f"{field}__in": [member.value for member in enum]})


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
    stop_timeout_ms = models.PositiveIntegerField(default=30_000, editable=False)

    state = models.CharField(_("state"), max_length=16, choices=STATES, default=State.STOPPED.value)
    reason = models.CharField(_("reason"), max_length=1000, blank=True)
    generation = models.PositiveBigIntegerField(_("generation"), default=0)
    last_generation = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="The newest generation that was ever claimed."
    )
    spawn_version = models.PositiveIntegerField(
        default=0, editable=False, help_text="The config's spawn version that runs."
    )

    # While a restart replaces before it retires [L8], a second process belongs to the worker: first
    # the successor, not ready yet, then the one that retires.
    successor_generation = models.PositiveBigIntegerField(null=True, editable=False)
    successor_process_id = models.PositiveBigIntegerField(null=True, editable=False)
    successor_started_at = models.DateTimeField(null=True, editable=False)
    successor_spawn_version = models.PositiveIntegerField(default=0, editable=False)
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

    is_stuck = models.BooleanField(default=False, editable=False)
    condemned = models.CharField(
        _("being replaced because"), max_length=500, blank=True, editable=False
    )
    restart_attempts = models.PositiveIntegerField(
        _("restart attempts"), default=0, help_text=_("Restarts since the last stable run.")
    )
    restart_at = models.DateTimeField(_("next restart"), null=True)
    restart_count = models.PositiveIntegerField(_("restarts"), default=0)
    last_restart_at = models.DateTimeField(_("last restart"), null=True)
    exit_code = models.BigIntegerField(_("exit code"), null=True)
    exit_signal = models.CharField(_("exit signal"), max_length=32, blank=True)

    worker_version = models.CharField(_("worker version"), max_length=64, blank=True)
    python_version = models.CharField(_("Python version"), max_length=64, blank=True)
    celery_version = models.CharField(_("Celery version"), max_length=64, blank=True)

    # What the transaction that holds the row's lock will write when it ends (`services.rows`).
    gathered: list[WorkerLog] | None = None
    has_moved = False

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
        """What runs was started with an older config: a restart brings it up to date."""
        return self.process_id is not None and self.spawn_version < self.config.spawn_version


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
        default=30_000,
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


class WorkerLog(models.Model):
    """What happened to a worker: one row for each transition, with its cause [L2]."""

    config = models.ForeignKey(
        WorkerConfig, on_delete=models.CASCADE, related_name="logs", verbose_name=_("worker")
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
