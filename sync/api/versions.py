"""What records said before they were edited or deleted on their platform [S4]."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from django.db.models import Model
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from sync import queries
from sync.api.base import Rows
from sync.api.serializers import VersionSerializer
from sync.types import RecordKind

M = TypeVar("M", bound=Model)


class Versioned(Rows[M]):
    """Records whose former versions are kept; who may read the record may read them."""

    kind: ClassVar[RecordKind]

    @extend_schema(responses=VersionSerializer(many=True))
    @action(
        detail=True,
        serializer_class=VersionSerializer,
        filterset_class=None,
        orderings={"newest": "-pk"},
    )
    def versions(self, request: Request, pk: str) -> Response:
        """What it said before, the newest first; empty when it was never changed."""
        found = queries.versions(self.kind, [self.get_object().pk])
        rows = self.paginate_queryset(self.filter_queryset(found))  # type: ignore[arg-type]
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)
