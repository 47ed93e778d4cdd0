"""Pages of lists that may be of any length: what is counted ends somewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.views import ChangeList

if TYPE_CHECKING:
    PaginatorBase = Paginator[Any]
else:
    PaginatorBase = Paginator


class BoundedPaginator(PaginatorBase):
    """Counts `MOST` rows and no more: a list is asked for every two seconds, and PostgreSQL would
    read the whole table for each total. Rows behind them are reached by filter or search."""

    MOST = 10_000
    template_name = "console/pagination.html"

    @cached_property
    def _found(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # admin pages no lists
        return rows.order_by().values("pk")[: self.MOST + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._found, self.MOST)

    @property
    def is_cut(self) -> bool:
        """Whether there are more rows than those that were counted."""
        return self._found > self.MOST


class BoundedChanges(ChangeList):  # type: ignore[misc]  # unfold is untyped
    """Where nothing is filtered the total is what was counted: it is not counted again."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.query and not self.has_active_filters:
            self.full_result_count = self.result_count
