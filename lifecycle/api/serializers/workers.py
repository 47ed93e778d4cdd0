"""Workers as they are."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from lifecycle.models import DEPLOYMENT_TYPES, STATES, WISHES


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
