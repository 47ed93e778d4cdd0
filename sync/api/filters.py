"""The filters of sync's lists."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from rest_framework.exceptions import ValidationError

from lifecycle.api.filters import Filters, true_or_false
from sync import queries
from sync.models.accounts import BREAKER_STATES, LOGIN_STATES
from sync.models.deliveries import DELIVERY_STATES
from sync.models.ledger import (
    AUDIT_OUTCOMES,
    DEAD_LETTER_STATES,
    OPEN_GAP,
    OUTCOMES,
    RAW_SHAPES,
)
from sync.models.records import DIRECTIONS
from sync.models.requests import LOGIN_SESSION_STATES, REPLY_STATES

Rows = QuerySet[Any]


def number(field: str) -> Any:
    return filters.NumberFilter(
        field_name=field, min_value=1, max_value=2**63 - 1, decimal_places=0
    )


class Narrowed(Filters):
    """Filters of a table that grows for ever and has an index for some of them alone.

    `wide`: parameters and orderings that would read all of it; each needs one of `narrow`, which
    are names of parameters, or one with the value that it must have (`state=open`).
    """

    wide: ClassVar[frozenset[str]]
    narrow: ClassVar[tuple[str, ...]]

    def filter_queryset(self, rows: Rows) -> Rows:
        """Raises `ValidationError`, code `too_wide`."""
        given = {name for name in self.wide if self.data.get(name)}
        if self.data.get("ordering", "").removeprefix("-") in self.wide:
            given.add("ordering")
        if given and not any(map(self._is_given, self.narrow)):
            message = _("Without %(narrow)s this would read the whole table: give that as well.")
            named = message % {"narrow": " / ".join(self.narrow)}
            raise ValidationError(dict.fromkeys(sorted(given), named), code="too_wide")
        found: Rows = super().filter_queryset(rows)
        return found

    def _is_given(self, narrow: str) -> bool:
        name, _equals, value = narrow.partition("=")
        return self.data.getlist(name) == [value] if value else bool(self.data.get(name))


class AccountFilter(Filters):
    platform = filters.CharFilter()
    enabled = true_or_false()
    login_state = filters.ChoiceFilter(choices=LOGIN_STATES)
    worker_id = filters.CharFilter(field_name="worker__worker_id")
    failing = true_or_false(method="is_failing", help_text="Its check or its login failed.")
    stalled = true_or_false(
        method="is_stalled", help_text="It has not synced for longer than `stalled_after_s`."
    )
    search = filters.CharFilter(method="in_names", help_text="Part of the name or the identifier.")

    def is_stalled(self, rows: Rows, _name: str, yes: bool) -> Rows:
        return rows.filter(stalled_since__isnull=not yes)

    def is_failing(self, rows: Rows, _name: str, yes: bool) -> Rows:
        return rows.filter(queries.FAILING) if yes else rows.exclude(queries.FAILING)

    def in_names(self, rows: Rows, _name: str, text: str) -> Rows:
        return rows.filter(Q(name__icontains=text) | Q(identifier__icontains=text))


class ServerFilter(Filters):
    platform = filters.CharFilter()
    state = filters.ChoiceFilter(choices=BREAKER_STATES)


class ConversationFilter(Filters):
    account = number("account_id")
    platform = filters.CharFilter(field_name="account__platform")
    unread = true_or_false(method="is_unread", help_text="With, or without, unread messages.")
    is_group = true_or_false()
    search = filters.CharFilter(
        method="in_texts", help_text="Part of the title, the last message or its sender's name."
    )

    def is_unread(self, rows: Rows, _name: str, yes: bool) -> Rows:
        return rows.filter(unread_count__gt=0) if yes else rows.filter(unread_count=0)

    def in_texts(self, rows: Rows, _name: str, text: str) -> Rows:
        return rows.filter(
            Q(title__icontains=text)
            | Q(last_message_text__icontains=text)
            | Q(last_sender_name__icontains=text)
        )


class ConversationMessageFilter(Filters):
    since = filters.IsoDateTimeFilter(field_name="sent_at", lookup_expr="gte")
    until = filters.IsoDateTimeFilter(field_name="sent_at", lookup_expr="lt")
    direction = filters.ChoiceFilter(choices=DIRECTIONS)
    search = filters.CharFilter(
        method="in_texts", help_text="Part of the text or the sender's name."
    )

    def in_texts(self, rows: Rows, _name: str, text: str) -> Rows:
        return rows.filter(Q(text__icontains=text) | Q(sender_name__icontains=text))


class MessageFilter(Narrowed):
    """No search here: not even those of one account have an index for it."""

    wide = frozenset({"direction", "is_read", "since", "until"})
    narrow = ("account", "conversation")

    account = number("account_id")
    conversation = number("conversation_id")
    direction = filters.ChoiceFilter(choices=DIRECTIONS)
    is_read = true_or_false()
    since = filters.IsoDateTimeFilter(field_name="sent_at", lookup_expr="gte")
    until = filters.IsoDateTimeFilter(field_name="sent_at", lookup_expr="lt")


class PostFilter(Filters):
    account = number("account_id")
    since = filters.IsoDateTimeFilter(field_name="published_at", lookup_expr="gte")
    search = filters.CharFilter(method="in_texts", help_text="Part of the title or the text.")

    def in_texts(self, rows: Rows, _name: str, text: str) -> Rows:
        return rows.filter(Q(title__icontains=text) | Q(text__icontains=text))


class CommentFilter(Narrowed):
    wide = frozenset({"direction", "since", "published_at"})
    narrow = ("account", "post")

    account = number("account_id")
    post = number("post_id")
    direction = filters.ChoiceFilter(choices=DIRECTIONS)
    since = filters.IsoDateTimeFilter(field_name="published_at", lookup_expr="gte")


class SyncRunFilter(Narrowed):
    wide = frozenset({"outcome", "since", "worker_id"})
    narrow = ("account",)

    account = number("account_id")
    worker_id = filters.CharFilter()
    outcome = filters.ChoiceFilter(choices=OUTCOMES)
    since = filters.IsoDateTimeFilter(field_name="finished_at", lookup_expr="gte")


class ReplyFilter(Filters):
    account = number("account_id")
    conversation = number("conversation_id")
    post = number("post_id")
    state = filters.MultipleChoiceFilter(choices=REPLY_STATES)
    created_by = filters.CharFilter()
    since = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")


class LoginSessionFilter(Filters):
    account = number("account_id")
    state = filters.MultipleChoiceFilter(choices=LOGIN_SESSION_STATES)


class GapFilter(Filters):
    open = true_or_false(
        method="is_open", help_text="Neither closed by backfill nor accepted as lost."
    )

    def is_open(self, rows: Rows, _name: str, yes: bool) -> Rows:
        return rows.filter(OPEN_GAP if yes else ~OPEN_GAP)


class AuditFilter(Filters):
    outcome = filters.ChoiceFilter(choices=AUDIT_OUTCOMES)


class DeadLetterFilter(Narrowed):
    wide = frozenset({"error"})
    narrow = ("account", "since", "state=open")

    account = number("account_id")
    platform = filters.CharFilter(field_name="account__platform")
    kind = filters.CharFilter()
    state = filters.MultipleChoiceFilter(choices=DEAD_LETTER_STATES)
    shape = filters.ChoiceFilter(choices=RAW_SHAPES)
    since = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    error = filters.CharFilter(lookup_expr="icontains", help_text="Part of the error.")


class HookDeliveryFilter(Narrowed):
    """What was refused in all accounts is among the dead letters."""

    wide = frozenset({"platform", "since", "state"})
    narrow = ("account", "state=pending")

    account = number("account_id")
    platform = filters.CharFilter(field_name="account__platform")
    state = filters.ChoiceFilter(choices=DELIVERY_STATES)
    since = filters.IsoDateTimeFilter(field_name="received_at", lookup_expr="gte")
