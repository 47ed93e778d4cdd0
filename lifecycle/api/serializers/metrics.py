"""The history of a worker."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from lifecycle.api.base import Strict
from lifecycle.series import PERIODS


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
