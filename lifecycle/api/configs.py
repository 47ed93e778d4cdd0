"""Worker configs over HTTP [C1]: workers as people want them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from lifecycle import queries, services
from lifecycle.api import examples
from lifecycle.api import serializers as bodies
from lifecycle.api.base import actor
from lifecycle.api.filters import WorkerConfigFilter
from lifecycle.errors import UnknownWorker
from lifecycle.models import WorkerConfig


class WorkerConfigViewSet(GenericViewSet[WorkerConfig]):
    """Workers as people want them."""

    queryset = WorkerConfig.objects.all()
    serializer_class = bodies.WorkerConfigSerializer
    filterset_class: type[WorkerConfigFilter] | None = WorkerConfigFilter
    lookup_field = "worker_id"
    lookup_value_regex = "[^/]+"
    orderings: ClassVar[dict[str, str]] = {
        "worker_id": "worker_id",
        "name": "name",
        "created_at": "created_at",
        "updated_at": "updated_at",
    }
    permissions: ClassVar[dict[str, str]] = {
        "GET": "lifecycle.view_workerconfig",
        "POST": "lifecycle.add_workerconfig",
        "PATCH": "lifecycle.change_workerconfig",
        "DELETE": "lifecycle.delete_workerconfig",
    }

    def get_object(self) -> WorkerConfig:
        worker_id = self.kwargs["worker_id"]
        try:
            return self.get_queryset().get(worker_id=worker_id)
        except WorkerConfig.DoesNotExist:
            raise UnknownWorker(worker_id) from None

    def list(self, request: Request) -> Response:
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

    def retrieve(self, request: Request, worker_id: str) -> Response:
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(examples=[examples.CONFIG])
    def create(self, request: Request) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        config = services.create_config(body.validated_data, actor(request))
        where = reverse("worker-config-detail", [config.worker_id], request=request)
        return Response(self.get_serializer(config).data, 201, headers={"Location": where})

    def partial_update(self, request: Request, worker_id: str) -> Response:
        config = self.get_object()
        body = self.get_serializer(config, data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        fields = body.validated_data
        # The version that was edited: the service compares it and sets, or raises LostRace.
        config.version = fields.pop("version", config.version)
        config = services.update_config(config, fields, actor(request))
        return Response(self.get_serializer(config).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, worker_id: str) -> Response:
        services.delete_config(self.get_object(), actor(request))
        return Response(status=204)

    @extend_schema(responses=bodies.ConfigVersionSerializer(many=True))
    @action(
        detail=True,
        serializer_class=bodies.ConfigVersionSerializer,
        filterset_class=None,
        orderings={"newest": "-pk"},
        permissions={"GET": "lifecycle.view_workerconfig", "POST": "lifecycle.change_workerconfig"},
    )
    def versions(self, request: Request, worker_id: str) -> Response:
        """Every version that the config has had, the newest first."""
        history: QuerySet[Any] = self.get_object().history.select_related("history_user")
        rows = self.paginate_queryset(self.filter_queryset(history))
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

    @extend_schema(request=bodies.RestoreSerializer, responses=bodies.WorkerConfigSerializer)
    @versions.mapping.post
    def restore(self, request: Request, worker_id: str) -> Response:
        """Make an old version the newest one again."""
        config = self.get_object()
        body = bodies.RestoreSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wanted = body.validated_data["version"]
        old = config.history.filter(version=wanted).order_by("-pk").first()
        if old is None:
            message = _("There is no version %(version)s of this config.") % {"version": wanted}
            raise ValidationError({"version": message}, code="unknown_version")
        restored = services.update_config(config, services.settings_of(old), actor(request))
        shown = bodies.WorkerConfigSerializer(restored, context=self.get_serializer_context())
        return Response(shown.data)

    @extend_schema(responses=bodies.ConfigSummarySerializer)
    @action(detail=False, url_path="stats/summary")
    def summary(self, request: Request) -> Response:
        """How many configs there are, of which kinds, and what they can take."""
        return Response(bodies.ConfigSummarySerializer(queries.config_summary()).data)
