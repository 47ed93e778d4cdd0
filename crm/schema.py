"""The OpenAPI schema: every operation names the errors that it can answer, in their one shape."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.openapi import AutoSchema as SpectacularSchema
from drf_spectacular.utils import Direction
from rest_framework import serializers

WRITING = {"POST", "PATCH", "DELETE"}
WITH_BODY = {"POST", "PATCH"}


class ErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="For programs.")
    detail = serializers.CharField(help_text="For people.")
    attr = serializers.CharField(
        allow_null=True, help_text="The field or parameter, e.g. `options.timeout`."
    )


class SideBySideSerializer(serializers.Serializer[Any]):
    yours = serializers.JSONField()
    current = serializers.JSONField()


class ConflictSerializer(serializers.Serializer[Any]):
    """Both versions of what was edited; secrets are masked."""

    yours = serializers.IntegerField(help_text="The version that was edited.")
    current = serializers.IntegerField(help_text="The version that is; edit this one.")
    changed_by = serializers.CharField(allow_null=True)
    fields = serializers.DictField(  # type: ignore[assignment]  # a field, not the property
        child=SideBySideSerializer(), help_text="By name: the fields in which the two differ."
    )


class ErrorsSerializer(serializers.Serializer[Any]):
    """The one shape of every error."""

    type = serializers.ChoiceField(["validation_error", "client_error", "server_error"])
    errors = ErrorSerializer(many=True)  # type: ignore[assignment]  # a field, not the property
    conflict = ConflictSerializer(required=False, help_text="With the code `out_of_date` only.")


class AutoSchema(SpectacularSchema):
    meanings: ClassVar[dict[str, str]] = {
        "400": "Malformed, or a field or parameter is wrong or unknown: each is named.",
        "401": "No token or session, or it is not valid.",
        "403": "Your role may not do this.",
        "404": "There is no such thing.",
        "409": "It can't be done as things are; the reason is told.",
        "413": "The body is too large.",
        "415": "The body is not JSON.",
        "429": "Too many requests; see Retry-After.",
        "503": "The database, or what this needs, is away; see Retry-After.",
    }

    def _get_response_bodies(self, direction: Direction = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        for status in sorted(self._errors()) if direction == "response" else ():
            if status not in bodies:
                shape = self._get_response_for_code(ErrorsSerializer, status)  # type: ignore[no-untyped-call]
                bodies[status] = {**shape, "description": self.meanings[status]}
        return bodies

    def _errors(self) -> set[str]:
        """Statuses that this operation can answer besides its good ones."""
        found = {"401", "403", "429", "503"}
        parameters = {one["in"] for one in self._get_parameters()}
        if "path" in parameters:
            found.add("404")
        if "query" in parameters:
            found.add("400")
        if self.method in WRITING:
            found.add("409")
        if self.method in WITH_BODY:
            found |= {"400", "413", "415"}
        further: dict[str, set[str]] = getattr(self.view, "further_errors", {})
        return found | further.get(getattr(self.view, "action", ""), set())
