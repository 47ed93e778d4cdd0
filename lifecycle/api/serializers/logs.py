"""What a process printed, and what happened to its worker."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from lifecycle.api.base import Strict
from lifecycle.logs.lines import Place
from lifecycle.models import LEVELS, WorkerLog

MAX_LINES = 10_000

STREAMS = ["stdout", "stderr"]


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
