"""The bodies of the lifecycle's API. They validate and show; `lifecycle.services` writes."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from lifecycle.api.base import NOT_FINITE, READ_ONLY, Strict
from lifecycle.logs.lines import Place
from lifecycle.masking import SECRET_FIELDS, masked
from lifecycle.models import DEPLOYMENT_TYPES, LEVELS, STATES, WISHES, WorkerConfig, WorkerLog
from lifecycle.series import PERIODS
from lifecycle.types import STOP_TIMEOUT_MS
from lifecycle.validators import validate_env_variables, validate_options

MAX_BATCH = 10_000
MAX_TIMEOUT_MS = 3_600_000
MAX_LINES = 10_000
STREAMS = ["stdout", "stderr"]
RESTART_ONLY = _("Only a restart knows this option.")
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
ANYTHING = {"type": "object", "additionalProperties": {}}


@extend_schema_field(STRINGS)
class EnvVariables(serializers.JSONField):
    pass


@extend_schema_field(ANYTHING)
class Options(serializers.JSONField):
    pass


class WorkerConfigSerializer(Strict, serializers.ModelSerializer[WorkerConfig]):
    """A config. Secrets in it are masked for everybody who may not change configs.

    `version` is shown; in a PATCH it may say which version was edited, and a stale one is a 409.
    """

    env_variables = EnvVariables(required=False, validators=[validate_env_variables])
    deployment_options = Options(required=False, validators=[validate_options])
    version = serializers.IntegerField(required=False, min_value=1)

    class Meta:
        model = WorkerConfig
        fields: ClassVar[list[str]] = [
            *("worker_id", "name", "description", "deployment_type", "host", "port"),
            *("max_accounts", "max_memory_mb", "cpu_cores", "pool", "concurrency", "queues"),
            *("env_variables", "command_args", "working_directory", "deployment_options"),
            *("auto_start", "auto_restart", "restart_mode", "restart_delay_ms"),
            *("max_restart_delay_ms", "max_restart_attempts", "restart_window_s"),
            *("stable_after_s", "heartbeat_timeout_s", "log_max_mb", "log_files", "enabled"),
            *("version", "created_at", "updated_at"),
        ]

    def validate_cpu_cores(self, value: float) -> float:
        if not math.isfinite(value):  # "nan" passes every bound
            raise serializers.ValidationError(NOT_FINITE, code="not_finite")
        return value

    def validate_worker_id(self, value: str) -> str:
        """It names queues and logs: it is given once."""
        if self.instance is not None and value != self.instance.worker_id:
            raise serializers.ValidationError(READ_ONLY, code="read_only")
        return value

    def validate_version(self, value: int) -> int:
        if self.instance is None:
            raise serializers.ValidationError(READ_ONLY, code="read_only")
        return value

    def to_representation(self, instance: WorkerConfig) -> dict[str, Any]:
        shown = super().to_representation(instance)
        request = self.context.get("request")
        if request is None or not request.user.has_perm("lifecycle.change_workerconfig"):
            for name in SECRET_FIELDS:
                shown[name] = masked(shown[name])
        return shown


class ConfigVersionSerializer(serializers.Serializer[Any]):
    """One kept version of a config."""

    version = serializers.IntegerField()
    change = serializers.ChoiceField(
        [("+", "created"), ("~", "changed"), ("-", "deleted")], source="history_type"
    )
    changed_at = serializers.DateTimeField(source="history_date")
    changed_by = serializers.CharField(
        source="history_user.username", default=None, allow_null=True
    )
    config = WorkerConfigSerializer(source="*")


class RestoreSerializer(Strict):
    version = serializers.IntegerField(min_value=1)


class ByDeploymentTypeSerializer(serializers.Serializer[Any]):
    local = serializers.IntegerField()
    ssh = serializers.IntegerField()
    docker = serializers.IntegerField()
    kubernetes = serializers.IntegerField()


class ConfigSummarySerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    enabled = serializers.IntegerField()
    disabled = serializers.IntegerField()
    auto_start = serializers.IntegerField()
    total_capacity = serializers.IntegerField(help_text="Accounts that enabled workers can take.")
    by_deployment_type = ByDeploymentTypeSerializer()


class OverviewSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    stopped = serializers.IntegerField()
    starting = serializers.IntegerField()
    running = serializers.IntegerField()
    stopping = serializers.IntegerField()
    error = serializers.IntegerField()
    crashed = serializers.IntegerField()
    total_accounts = serializers.IntegerField()
    total_capacity = serializers.IntegerField()
    cpu_usage_avg = serializers.FloatField(help_text="% of one core, over workers with a process.")
    memory_usage_total_mb = serializers.FloatField()
    active_tasks = serializers.IntegerField()


class StatusSerializer(serializers.Serializer[Any]):
    """A worker as it is [L3]."""

    worker_id = serializers.CharField()
    status = serializers.ChoiceField(STATES)
    desired_state = serializers.ChoiceField(WISHES)
    reason = serializers.CharField(help_text="Why it is so, where there is more to say.")
    outdated = serializers.BooleanField(
        help_text="It runs with an older config or code than there is now; "
        "a restart brings it up to date."
    )
    successor_process_id = serializers.IntegerField(
        allow_null=True, help_text="The new process of a restart, until it takes over."
    )
    retiring_process_id = serializers.IntegerField(
        allow_null=True, help_text="The old process of a restart, until it has ended."
    )
    generation = serializers.IntegerField(help_text="How often it was started.")
    process_id = serializers.IntegerField(allow_null=True)
    container_id = serializers.CharField()
    pod_name = serializers.CharField()
    uptime = serializers.IntegerField(help_text="Seconds.")
    started_at = serializers.DateTimeField(allow_null=True)
    ready_at = serializers.DateTimeField(allow_null=True)
    stopped_at = serializers.DateTimeField(allow_null=True)
    last_heartbeat_at = serializers.DateTimeField(allow_null=True)
    cpu_usage = serializers.FloatField(help_text="% of one core.")
    memory_usage_mb = serializers.FloatField()
    consumed_queues = serializers.ListField(
        child=serializers.CharField(), help_text="As of the last heartbeat."
    )
    missing_queues = serializers.ListField(
        child=serializers.CharField(), help_text="It should consume them and does not."
    )
    unfetched_queues = serializers.ListField(
        child=serializers.CharField(),
        help_text="Not empty, and it fetches nothing although it has free slots.",
    )
    assigned_accounts = serializers.IntegerField()
    max_accounts = serializers.IntegerField()
    active_tasks = serializers.IntegerField()
    tasks_total = serializers.IntegerField()
    error_count = serializers.IntegerField()
    last_error = serializers.CharField()
    restart_count = serializers.IntegerField()
    restart_attempts = serializers.IntegerField(help_text="Since the last stable run.")
    last_restart_at = serializers.DateTimeField(allow_null=True)
    restart_at = serializers.DateTimeField(allow_null=True, help_text="When it will be restarted.")
    exit_code = serializers.IntegerField(allow_null=True)
    exit_signal = serializers.CharField()
    exit_text = serializers.CharField(help_text="The last exit as people say it.")
    worker_version = serializers.CharField()
    python_version = serializers.CharField()
    celery_version = serializers.CharField()


class WorkerSerializer(StatusSerializer):
    """A line of the list of workers."""

    name = serializers.CharField()
    deployment_type = serializers.ChoiceField(DEPLOYMENT_TYPES)
    enabled = serializers.BooleanField()


class WishedSerializer(serializers.Serializer[Any]):
    """What became of a start, stop or restart."""

    success = serializers.BooleanField()
    worker_id = serializers.CharField()
    status = serializers.ChoiceField(STATES)
    process_id = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField()


class StopSerializer(Strict):
    graceful = serializers.BooleanField(default=True, help_text="False kills at once.")
    timeout = serializers.IntegerField(
        default=STOP_TIMEOUT_MS,
        min_value=0,
        max_value=MAX_TIMEOUT_MS,
        help_text="Milliseconds until a graceful stop becomes a kill.",
    )


class RestartSerializer(StopSerializer):
    replace = serializers.BooleanField(
        required=False,
        help_text="Default true: the new process is ready before the old one ends. False stops "
        "first, then starts; so does a restart that is not graceful.",
    )


class BatchSerializer(Strict):
    action = serializers.ChoiceField(["start", "stop", "restart"])
    worker_ids = serializers.ListField(
        child=serializers.CharField(max_length=200), min_length=1, max_length=MAX_BATCH
    )
    options = RestartSerializer(required=False, help_text="Of a stop or restart.")

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["action"] != "restart" and "replace" in given.get("options", {}):
            complaint = serializers.ErrorDetail(str(RESTART_ONLY), "unknown")
            raise serializers.ValidationError({"options": {"replace": [complaint]}})
        return given


class BatchErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()


class BatchResultSerializer(serializers.Serializer[Any]):
    worker_id = serializers.CharField()
    success = serializers.BooleanField()
    changed = serializers.BooleanField(help_text="False: it was so already, or could not be done.")
    status = serializers.ChoiceField(STATES, allow_null=True)
    error = BatchErrorSerializer(allow_null=True)


class BatchAnswerSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField(help_text="All of them went well.")
    action = serializers.CharField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    results = BatchResultSerializer(many=True)


class ChecksSerializer(serializers.Serializer[Any]):
    heartbeat = serializers.CharField()
    consuming = serializers.CharField(help_text="Whether it consumes all of its queues.")
    memory = serializers.CharField()
    cpu = serializers.CharField()
    tasks = serializers.CharField()


class HealthSerializer(serializers.Serializer[Any]):
    """Each check is "ok" or says what is wrong."""

    healthy = serializers.BooleanField()
    status = serializers.ChoiceField(STATES)
    reason = serializers.CharField()
    checks = ChecksSerializer()


class PeriodField(serializers.ChoiceField):
    """A length of time by name; another one is answered with the names that there are."""

    default_error_messages = {
        "invalid_choice": _("“{input}” is not a period. Choose one of {choices}.")
    }

    def to_internal_value(self, data: Any) -> Any:
        if data not in self.choices:
            self.fail("invalid_choice", input=data, choices=", ".join(self.choices))
        return data


class MetricsQuerySerializer(Strict):
    period = PeriodField(
        choices=list(PERIODS),
        default="1h",
        help_text="How far back. Up to 1h in steps of 10 s, to 24h of 1 min, to 30d of 10 min.",
    )


class PointSerializer(serializers.Serializer[Any]):
    time = serializers.DateTimeField(help_text="The start of the step.")
    value = serializers.FloatField()


class MetricsSerializer(serializers.Serializer[Any]):
    """The history of a worker, oldest first. A step in which it did not run has no point."""

    worker_id = serializers.CharField()
    period = serializers.ChoiceField(list(PERIODS))
    resolution = serializers.IntegerField(help_text="Seconds from one point to the next.")
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    cpu_usage = PointSerializer(many=True, help_text="% of one core, pool children included.")
    memory_usage = PointSerializer(many=True, help_text="MB (PSS), pool children included.")
    task_count = PointSerializer(many=True, help_text="Tasks that were begun in the step.")
    error_rate = PointSerializer(many=True, help_text="Failed tasks and crashes a minute.")
    active_tasks = PointSerializer(many=True, help_text="Tasks that ran at the same time.")


class LogQuerySerializer(Strict):
    """Two logs at one address, told apart by the parameters.

    With `stream` or `tail`: what the process printed, oldest line first; `level` and `since` then
    choose among its lines. Without either: what happened to the worker, newest row first.
    """

    stream = serializers.ChoiceField(
        STREAMS, required=False, help_text="The process's log; default stdout."
    )
    tail = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_LINES,
        help_text="The process's log: its last lines that fit; default 100.",
    )
    level = serializers.ChoiceField(
        LEVELS,
        required=False,
        help_text="This level and above. A line of the process that is no JSON record counts as "
        "info; a traceback as the record that it follows, or as error.",
    )
    limit = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_LINES,
        help_text="The lifecycle log: its newest rows; default 100.",
    )
    since = serializers.DateTimeField(
        required=False, help_text="Not older. A line without a time has that of the line before it."
    )


class FollowQuerySerializer(Strict):
    stream = serializers.ChoiceField(STREAMS, default="stdout")
    tail = serializers.IntegerField(
        default=100, min_value=0, max_value=MAX_LINES, help_text="Lines that come first."
    )
    after = serializers.CharField(
        required=False,
        help_text="Go on behind this place (the id of an event, or the `cursor` of a log read "
        "before) instead of `tail`. A header Last-Event-ID does the same, and counts more.",
    )

    def validate_after(self, value: str) -> Place:
        try:
            return Place.parse(value)
        except ValueError as error:
            raise serializers.ValidationError(str(error), code="no_place") from None


class ProcessLogSerializer(serializers.Serializer[Any]):
    worker_id = serializers.CharField()
    stream = serializers.ChoiceField(STREAMS)
    lines = serializers.ListField(child=serializers.CharField(), help_text="Oldest first.")
    truncated = serializers.BooleanField(
        help_text="There may be more that fits further back than one request looks."
    )
    cursor = serializers.CharField(help_text="Follow the log from here on with `after`.")


class LoggedLineSerializer(serializers.Serializer[Any]):
    """The data of one event of a followed log."""

    line = serializers.CharField()
    level = serializers.ChoiceField(LEVELS)
    time = serializers.DateTimeField(allow_null=True)


class LogRowSerializer(serializers.ModelSerializer[WorkerLog]):
    class Meta:
        model = WorkerLog
        fields: ClassVar[list[str]] = [
            *("time", "level", "event", "from_state", "to_state", "generation", "message", "actor")
        ]


class LifecycleLogSerializer(serializers.Serializer[Any]):
    worker_id = serializers.CharField()
    logs = LogRowSerializer(many=True, help_text="Newest first.")
