"""Filters of lists by another row, which is found by typing: thousands fit on no page, and a live
list is asked for every two seconds [S7]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.contrib.filters.forms import AutocompleteDropdownForm

from lifecycle.models import WorkerConfig

SEARCH = AutocompleteDropdownForm.Media.js


class ChosenForm(AutocompleteDropdownForm):  # type: ignore[misc]  # unfold is untyped
    """The row that is chosen now; the others are asked for as somebody types."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.queryset = self.names()

    def names(self) -> QuerySet[Any]:
        """The rows to be named, and nothing else of them: their order, `str`."""
        raise NotImplementedError

    class Media(AutocompleteDropdownForm.Media):  # type: ignore[misc]
        # select2's own words, read where jQuery still has its name: right behind select2 itself
        js = (*SEARCH[:2], "admin/js/vendor/select2/i18n/zh-CN.js", *SEARCH[2:])


class ByTyping(AutocompleteSelectFilter):  # type: ignore[misc]
    """Costs nothing where no row is chosen: Django's own would read all rows, secrets included,
    each time a list is asked for. What the other filters say is kept."""

    template = "console/by_typing.html"
    form_class: type[ChosenForm]

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        own = self.expected_parameters()
        kept = {name: value for name, value in changelist.params.items() if name not in own}
        for choice in super().choices(changelist):
            yield {**choice, "kept": kept}


class WorkerForm(ChosenForm):
    def names(self) -> QuerySet[WorkerConfig]:
        return WorkerConfig.objects.only("worker_id")


class WorkerFilter(ByTyping):
    form_class = WorkerForm
