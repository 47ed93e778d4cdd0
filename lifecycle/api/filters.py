"""The filters of the lifecycle's lists."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema_field

from lifecycle import queries
from lifecycle.models import DEPLOYMENT_TYPES, POOLS, ROLLOUT_STATES, STATES, WISHES

Rows = QuerySet[Any]


def true_or_false(**options: Any) -> Any:
    """A filter for yes or no; anything else is an error, where `BooleanFilter` ignores it."""
    choices = [("true", "true"), ("false", "false")]
    made = filters.TypedChoiceFilter(choices=choices, coerce=lambda text: text == "true", **options)
    return extend_schema_field(bool)(made)


class Filters(filters.FilterSet):  # type: ignore[misc]  # django-filter is untyped
    """The base of all filters."""


class WorkerConfigFilter(Filters):
    deployment_type = filters.ChoiceFilter(choices=DEPLOYMENT_TYPES)
    pool = filters.ChoiceFilter(choices=POOLS)
    enabled = true_or_false()
    auto_start = true_or_false()
    search = filters.CharFilter(method="in_names", help_text="Part of the worker id or the name.")

    def in_names(self, rows: Rows, _name: str, text: str) -> Rows:
        return rows.filter(Q(worker_id__icontains=text) | Q(name__icontains=text))


class WorkerFilter(Filters):
    state = filters.MultipleChoiceFilter(choices=STATES)
    desired_state = filters.ChoiceFilter(choices=WISHES)
    outdated = true_or_false(
        method="in_step", help_text="Runs with an older config or code than there is now."
    )
    deployment_type = filters.ChoiceFilter(
        field_name="config__deployment_type", choices=DEPLOYMENT_TYPES
    )
    search = filters.CharFilter(method="in_names", help_text="Part of the worker id or the name.")

    def in_names(self, rows: Rows, _name: str, text: str) -> Rows:
        return rows.filter(Q(config__worker_id__icontains=text) | Q(config__name__icontains=text))

    def in_step(self, rows: Rows, _name: str, wanted: bool) -> Rows:
        older = queries.outdated().values("pk").order_by()
        return rows.filter(pk__in=older) if wanted else rows.exclude(pk__in=older)


class RolloutFilter(Filters):
    state = filters.MultipleChoiceFilter(choices=ROLLOUT_STATES)
