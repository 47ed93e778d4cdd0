"""Pages of lists that grow while they are read."""

from __future__ import annotations

from functools import reduce
from typing import Any

from django.core import signing
from django.db.models import F, Model, Q, QuerySet
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param
from rest_framework.views import APIView


class Page(BasePagination):
    """Keyset pages: `{"next", "previous", "results"}`, stable while rows arrive at either end.

    A view names its orders as `orderings = {"latest": "-last_message_at"}`: the first is the
    default, the primary key breaks ties in the same direction, and a null always comes last. The
    cursor is signed, so what comes back is what was handed out.
    """

    parameters = ("cursor", "ordering", "page_size")
    default_size = 50
    max_size = 500

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any]:
        self.url = request.build_absolute_uri()
        self.ordering = self._ordering(request, view)
        size = self._size(request)
        backwards, position = self._position(request)
        self.nullable = self._nullable(queryset)
        rows = queryset.order_by(*self._order_by(backwards))
        if position is not None:
            rows = rows.filter(self._beyond(position, backwards))
        found = list(rows[: size + 1])
        self.page: list[Any] = found[:size]
        more = len(found) > size
        if backwards:
            self.page.reverse()
        self.has_next = backwards or more
        self.has_previous = more if backwards else position is not None
        return self.page

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "next": self._link(self.page[-1], False) if self.page and self.has_next else None,
                "previous": self._link(self.page[0], True)
                if self.page and self.has_previous
                else None,
                "results": data,
            }
        )

    def _ordering(self, request: Request, view: APIView | None) -> str:
        """The order as Django writes it, e.g. `-last_message_at`."""
        orderings: dict[str, str] = getattr(view, "orderings", {"newest": "-pk"})
        chosen = request.query_params.get("ordering") or next(iter(orderings))
        if chosen in orderings:
            return orderings[chosen]
        if chosen.startswith("-") and chosen[1:] in orderings:
            return _reverse(orderings[chosen[1:]])
        names = {"names": ", ".join(orderings)}
        message = _("Choose one of: %(names)s; '-' before it reverses it.") % names
        raise ValidationError({"ordering": message}, code="invalid_choice")

    def _size(self, request: Request) -> int:
        given = request.query_params.get("page_size", str(self.default_size))
        size = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
        if not 1 <= size <= self.max_size:
            message = _("Give a whole number from 1 to %(max)s.") % {"max": self.max_size}
            raise ValidationError({"page_size": message}, code="invalid")
        return size

    def _position(self, request: Request) -> tuple[bool, tuple[Any, Any] | None]:
        """Direction and (key, pk) of the row from which this page goes on; None at the start."""
        token = request.query_params.get("cursor")
        if not token:
            return False, None
        try:
            ordering, backwards, key, pk = signing.loads(token, salt="page")
        except signing.BadSignature:
            message = _("This is not a cursor of ours.")
            raise ValidationError({"cursor": message}, code="invalid") from None
        if ordering != self.ordering:
            message = _("This cursor belongs to another ordering.")
            raise ValidationError({"cursor": message}, code="invalid")
        return backwards, (key, pk)

    def _order_by(self, backwards: bool) -> list[Any]:
        ordering = _reverse(self.ordering) if backwards else self.ordering
        name, descending = ordering.lstrip("-"), ordering.startswith("-")
        if name == "pk":
            return [ordering]
        tie = "-pk" if descending else "pk"
        if not self.nullable:  # a word on nulls would keep PostgreSQL from using a plain index
            return [ordering, tie]
        # Forwards nulls come last, so backwards they come first.
        nulls: dict[str, Any] = {"nulls_first": True} if backwards else {"nulls_last": True}
        return [F(name).desc(**nulls) if descending else F(name).asc(**nulls), tie]

    def _beyond(self, position: tuple[Any, Any], backwards: bool) -> Q:
        """Rows after (before) the position. The bound on the key alone is for the index."""
        key, pk = position
        name = self.ordering.lstrip("-")
        sign = "lt" if self.ordering.startswith("-") != backwards else "gt"
        tie = Q(**{f"pk__{sign}": pk})
        if name == "pk":
            return tie
        if key is None:
            same = Q(**{f"{name}__isnull": True}) & tie
            return same | Q(**{f"{name}__isnull": False}) if backwards else same
        beyond = Q(**{f"{name}__{sign}e": key}) & (Q(**{f"{name}__{sign}": key}) | tie)
        if self.nullable and not backwards:
            return beyond | Q(**{f"{name}__isnull": True})
        return beyond

    def _nullable(self, queryset: QuerySet[Any]) -> bool:
        name = self.ordering.lstrip("-")
        options = queryset.model._meta  # noqa: SLF001 - public, by Django's documentation
        return "__" not in name and name != "pk" and bool(options.get_field(name).null)

    def _link(self, row: Model, backwards: bool) -> str:
        key = reduce(getattr, self.ordering.lstrip("-").split("__"), row)
        plain = key.isoformat() if hasattr(key, "isoformat") else key
        cursor = signing.dumps([self.ordering, backwards, plain, row.pk], salt="page")
        return replace_query_param(remove_query_param(self.url, "cursor"), "cursor", cursor)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        names = list(getattr(view, "orderings", {"newest": "-pk"}))
        sizes = {
            "type": "integer",
            "minimum": 1,
            "maximum": self.max_size,
            "default": self.default_size,
        }
        orders = {"type": "string", "enum": [*names, *(f"-{name}" for name in names)]}
        described = (
            ("cursor", "Where the page begins, from `next` or `previous`.", {"type": "string"}),
            ("ordering", f"Default: `{names[0]}`; `-` before a name reverses it.", orders),
            ("page_size", "Rows in a page.", sizes),
        )
        return [
            {"name": name, "in": "query", "required": False, "description": text, "schema": schema}
            for name, text, schema in described
        ]


def _reverse(ordering: str) -> str:
    return ordering[1:] if ordering.startswith("-") else f"-{ordering}"
