"""What sync's lists have in common."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from django.db.models import Model
from rest_framework.generics import get_object_or_404
from rest_framework.viewsets import ReadOnlyModelViewSet

M = TypeVar("M", bound=Model)


class Rows(ReadOnlyModelViewSet[M]):
    """A list in pages, with filters, and one row by its id."""

    lookup_value_regex = "[0-9]{1,19}"
    filterset_class: type[Any] | None = None
    orderings: ClassVar[dict[str, str]] = {"newest": "-pk"}
    permissions: ClassVar[dict[str, str]] = {}

    def get_object(self) -> M:
        """By id alone: the filters are the list's."""
        found: M = get_object_or_404(self.get_queryset(), pk=self.kwargs["pk"])
        self.check_object_permissions(self.request, found)
        return found
