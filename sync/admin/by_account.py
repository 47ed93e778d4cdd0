"""The filter of lists by account."""

from __future__ import annotations

from django.db.models import QuerySet

from lifecycle.console.by_typing import ByTyping, ChosenForm
from sync import queries
from sync.models import Account


class AccountForm(ChosenForm):
    def names(self) -> QuerySet[Account]:
        return queries.account_names()


class AccountFilter(ByTyping):
    form_class = AccountForm


BY_ACCOUNT = ("account", AccountFilter)  # in a `list_filter`
