"""What the views and serializers of the API share; `sync.api` uses it as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request

UNKNOWN = _("There is no such field.")
READ_ONLY = _("This field can't be written.")
NOT_FINITE = _("Must be a finite number.")


class Strict(serializers.Serializer[Any]):
    """A body may hold the declared writable fields only; each other one is named in the error."""

    def to_internal_value(self, data: Any) -> Any:
        errors: dict[str, list[ErrorDetail]] = {}
        for name in data if isinstance(data, Mapping) else ():
            if name not in self.fields:
                errors[str(name)] = [ErrorDetail(str(UNKNOWN), "unknown")]
            elif self.fields[name].read_only:
                errors[name] = [ErrorDetail(str(READ_ONLY), "read_only")]
        try:
            value = super().to_internal_value(data)
        except ValidationError as found:
            raise ValidationError({**found.detail, **errors}) from None  # type: ignore[dict-item]
        if errors:
            raise ValidationError(errors)
        return value


class NoBody(Strict):
    """An empty body, or an empty object."""


def actor(request: Request) -> str:
    """Who it is that the log rows name."""
    return str(request.user.get_username())


class EventsOrError(DefaultContentNegotiation):
    """Whatever is accepted, an error is JSON: `EventSource` asks for events only."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        json = JSONRenderer()
        return json, str(json.media_type)
