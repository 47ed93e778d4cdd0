"""Rolling restarts over HTTP [L8]: begun, watched and aborted."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from lifecycle import queries, services
from lifecycle.api import examples
from lifecycle.api.base import NoBody, Strict, actor
from lifecycle.api.filters import RolloutFilter
from lifecycle.api.serializers import MAX_BATCH, MAX_TIMEOUT_MS
from lifecycle.models import ROLLOUT_STATES, STEP_STATES, Rollout, RolloutStep
from lifecycle.types import STOP_TIMEOUT_MS

MAX_AT_A_TIME = 1000
MIN_TIMEOUT_MS = 1000


class BeginSerializer(Strict):
    """Which workers, by id or all that are outdated, and how many at a time."""

    worker_ids = serializers.ListField(
        child=serializers.CharField(max_length=200),
        required=False,
        min_length=1,
        max_length=MAX_BATCH,
        help_text="Restarted in this order.",
    )
    outdated = serializers.BooleanField(
        required=False, help_text="True: all workers that run with an older config or code."
    )
    max_surge = serializers.IntegerField(
        default=1,
        min_value=0,
        max_value=MAX_AT_A_TIME,
        help_text="Workers that may have a second process at a time: replaced before retired.",
    )
    max_unavailable = serializers.IntegerField(
        default=0,
        min_value=0,
        max_value=MAX_AT_A_TIME,
        help_text="Workers that may be down at a time: stopped, then started.",
    )
    timeout = serializers.IntegerField(
        default=STOP_TIMEOUT_MS,
        min_value=MIN_TIMEOUT_MS,
        max_value=MAX_TIMEOUT_MS,
        help_text="Milliseconds that each old process has to finish its tasks.",
    )

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if ("worker_ids" in given) == given.get("outdated", False):
            message = _("Give either 'worker_ids' or 'outdated': true.")
            raise serializers.ValidationError(message, code="either_or")
        return given


class StepSerializer(serializers.ModelSerializer[RolloutStep]):
    worker_id = serializers.CharField(source="config.worker_id")
    state = serializers.ChoiceField(STEP_STATES)
    replaced_first = serializers.BooleanField(
        source="is_surge", help_text="The new process is ready before the old one ends."
    )
    message = serializers.CharField(help_text="Why it failed or was skipped.")

    class Meta:
        model = RolloutStep
        fields: ClassVar[list[str]] = [
            *("worker_id", "state", "replaced_first", "message", "started_at", "finished_at")
        ]


class ProgressSerializer(serializers.Serializer[Any]):
    """How many workers stand where."""

    total = serializers.IntegerField()
    pending = serializers.IntegerField()
    running = serializers.IntegerField()
    done = serializers.IntegerField()
    failed = serializers.IntegerField()
    skipped = serializers.IntegerField()


class RolloutLineSerializer(serializers.ModelSerializer[Rollout]):
    """A line of the list of rolling restarts."""

    state = serializers.ChoiceField(ROLLOUT_STATES)
    reason = serializers.CharField(help_text="Why it failed, or who aborted it.")
    timeout = serializers.IntegerField(source="timeout_ms", help_text="Milliseconds.")
    progress = serializers.SerializerMethodField()

    class Meta:
        model = Rollout
        fields: ClassVar[list[str]] = [
            *("id", "state", "reason", "progress", "max_surge", "max_unavailable", "timeout"),
            *("actor", "created_at", "finished_at"),
        ]

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, rollout: Rollout) -> dict[str, int]:
        return queries.progress(rollout)


class RolloutSerializer(RolloutLineSerializer):
    """A rolling restart with its steps, one for each worker, in their order."""

    steps = StepSerializer(many=True)

    class Meta(RolloutLineSerializer.Meta):
        fields: ClassVar[list[str]] = [*RolloutLineSerializer.Meta.fields, "steps"]


class RolloutViewSet(GenericViewSet[Rollout]):
    """Rolling restarts: worker after worker, never more at a time than the limits allow."""

    queryset = Rollout.objects.all()  # for the schema; rows come from `queries`
    serializer_class: type[RolloutLineSerializer] = RolloutLineSerializer
    filterset_class: type[RolloutFilter] | None = RolloutFilter
    lookup_value_regex = "[0-9]{1,19}"
    orderings: ClassVar[dict[str, str]] = {"newest": "-pk"}
    permissions: ClassVar[dict[str, str]] = {
        "GET": "lifecycle.view_rollout",
        "POST": "lifecycle.operate_worker",
    }
    further_errors: ClassVar[dict[str, set[str]]] = {"create": {"404"}}  # for the schema

    def get_queryset(self) -> QuerySet[Rollout]:
        return queries.rollouts()

    def list(self, request: Request) -> Response:
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

    @extend_schema(responses=RolloutSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self._shown(pk))

    @extend_schema(
        request=BeginSerializer,
        responses={201: RolloutSerializer},
        examples=[examples.ROLL_SOME, examples.ROLL_OUTDATED],
    )
    def create(self, request: Request) -> Response:
        """Begin one. The first worker that can't be restarted ends it; what runs goes on."""
        body = BeginSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        ids = services.outdated_workers() if given.get("outdated") else given["worker_ids"]
        rollout = services.begin_rollout(
            ids,
            actor(request),
            max_surge=given["max_surge"],
            max_unavailable=given["max_unavailable"],
            timeout_ms=given["timeout"],
        )
        where = reverse("rollout-detail", [rollout.pk], request=request)
        return Response(self._shown(rollout.pk), 201, headers={"Location": where})

    @extend_schema(request=NoBody, responses=RolloutSerializer)
    @action(detail=True, methods=["post"], permissions={"POST": "lifecycle.operate_worker"})
    def abort(self, request: Request, pk: str) -> Response:
        """Begin no further restart; one that is under way completes. Safe to repeat."""
        NoBody(data=request.data).is_valid(raise_exception=True)
        found = get_object_or_404(Rollout, pk=pk)
        services.abort_rollout(found.pk, actor(request))
        return Response(self._shown(found.pk))

    def _shown(self, pk: str | int) -> dict[str, Any]:
        """Two queries, whatever the number of steps."""
        rows = self.get_queryset().prefetch_related("steps__config")
        return RolloutSerializer(get_object_or_404(rows, pk=pk)).data
