"""The filter of lists by account: found by typing, since thousands fit on no page [S7]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.contrib.filters.forms import AutocompleteDropdownForm

from sync import queries

SEARCH = AutocompleteDropdownForm.Media.js


class AccountForm(AutocompleteDropdownForm):  # type: ignore[misc]  # unfold is untyped
    """The account that is chosen now; the others are asked for as somebody types."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.queryset = queries.account_names()

    class Media(AutocompleteDropdownForm.Media):  # type: ignore[misc]
        # select2's own words, read where jQuery still has its name: right behind select2 itself
        js = (*SEARCH[:2], "admin/js/vendor/select2/i18n/zh-CN.js", *SEARCH[2:])


class AccountFilter(AutocompleteSelectFilter):  # type: ignore[misc]
    """Costs nothing where no account is chosen: Django's own would read all accounts, secrets
    included, each time a list is asked for. What the other filters say is kept."""

    template = "console/account_filter.html"
    form_class = AccountForm

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        own = self.expected_parameters()
        kept = {name: value for name, value in changelist.params.items() if name not in own}
        for choice in super().choices(changelist):
            yield {**choice, "kept": kept}


BY_ACCOUNT = ("account", AccountFilter)  # in a `list_filter`
