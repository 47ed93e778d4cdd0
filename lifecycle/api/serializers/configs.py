"""Configs and their versions."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from lifecycle.api.base import NOT_FINITE, READ_ONLY, Strict
from lifecycle.masking import SECRET_FIELDS, masked
from lifecycle.models import WorkerConfig
from lifecycle.validators import validate_env_variables, validate_options

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
