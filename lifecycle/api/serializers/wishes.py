"""What may be asked of workers, one or many, and what became of it."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from lifecycle.api.base import Strict
from lifecycle.models import STATES
from lifecycle.types import STOP_TIMEOUT_MS

MAX_BATCH = 10_000

MAX_TIMEOUT_MS = 3_600_000

UNFIT = _("A %(action)s knows no such option.")
OPTIONS = {
    "start": set[str](),
    "stop": {"graceful", "timeout"},
    "restart": {"graceful", "timeout", "replace"},
}


class WishedSerializer(serializers.Serializer[Any]):
    """What became of a start, stop or restart."""

    success = serializers.BooleanField()
    worker_id = serializers.CharField()
    status = serializers.ChoiceField(STATES)
    process_id = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField()


class StopSerializer(Strict):
    graceful = serializers.BooleanField(
        required=False, help_text="Default true. False kills at once."
    )
    timeout = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_TIMEOUT_MS,
        help_text=f"Milliseconds until a graceful stop becomes a kill; default {STOP_TIMEOUT_MS}.",
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
        verb = given["action"]
        if unfit := given.get("options", {}).keys() - OPTIONS[verb]:
            complaint = serializers.ErrorDetail(UNFIT % {"action": verb}, "unknown")
            raise serializers.ValidationError({"options": {name: [complaint] for name in unfit}})
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
