"""What all of the API has in common: the one shape of errors, and lists that know their filters."""

from __future__ import annotations

from typing import Any, TypeVar

from django.core.exceptions import NON_FIELD_ERRORS, RequestDataTooBig
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.db.models import Model, ProtectedError, QuerySet
from django.utils.translation import gettext as _
from django_filters.rest_framework import DjangoFilterBackend
from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler as StandardHandler
from psycopg.errors import UniqueViolation
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound, ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from crm.paging import Page
from crm.parsers import TooLarge
from lifecycle.api.errors import ANSWERS as LIFECYCLE_ANSWERS
from lifecycle.api.errors import conflict_body
from lifecycle.errors import OutOfDate
from lifecycle.said import said
from sync.api.errors import ANSWERS as SYNC_ANSWERS

M = TypeVar("M", bound=Model)

RETRY_AFTER_S = 5


# --- errors ----------------------------------------------------------------------------------


class Refusal(APIException):
    """An error of the domain: its status and code, and the domain's own words."""

    def __init__(self, status_code: int, code: str, detail: str) -> None:
        self.status_code = status_code
        if status_code == status.HTTP_503_SERVICE_UNAVAILABLE:
            self.wait = RETRY_AFTER_S  # becomes the header Retry-After
        super().__init__(detail, code)


class ErrorFormatter(ExceptionFormatter):
    """The one shape; an edit that is out of date also has both versions, as `conflict`."""

    def run(self) -> Any:
        body = super().run()
        if isinstance(self.original_exc, OutOfDate):
            body["conflict"] = conflict_body(self.original_exc)
        return body


class ExceptionHandler(StandardHandler):
    """Every error as `{"type", "errors": [{"code", "detail", "attr"}]}`, the domain's included."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        for kind, (status_code, code) in {**LIFECYCLE_ANSWERS, **SYNC_ANSWERS}.items():
            if isinstance(exc, kind):
                return Refusal(status_code, code, said(str(exc)))
        match exc:
            case DjangoValidationError():
                return ValidationError(_named_as_here(as_serializer_error(exc)))
            case ProtectedError():
                return Refusal(409, "in_use", _("Other things still refer to this one."))
            case IntegrityError() | DataError():
                return _refused_by_database(exc)
            case OperationalError() | InterfaceError():
                detail = _("The database is away or busy; try again shortly.")
                return Refusal(503, "database_unavailable", detail)
            case RequestDataTooBig():
                return TooLarge()
        converted: Exception = super().convert_known_exceptions(exc)
        return converted

    def report_exception(self, exc: APIException, response: Response) -> None:
        """A traceback is for bugs; that something is away is logged by Django as any 5xx is."""
        if exc.status_code == status.HTTP_500_INTERNAL_SERVER_ERROR:
            super().report_exception(exc, response)


def _named_as_here(errors: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with the whole has one name, whoever found it."""
    whole = api_settings.NON_FIELD_ERRORS_KEY
    return {whole if name == NON_FIELD_ERRORS else name: said for name, said in errors.items()}


def _refused_by_database(exc: IntegrityError | DataError) -> Exception:
    """Two requests raced past the same check, or a value that only PostgreSQL can't hold."""
    if isinstance(exc.__cause__, UniqueViolation):
        return Refusal(409, "unique", _("There is one already."))
    if isinstance(exc, DataError):
        return ValidationError(_("A value can't be stored as it is."))
    return exc


# --- lists -----------------------------------------------------------------------------------


class StrictFilters(DjangoFilterBackend):  # type: ignore[misc]  # django-filter is untyped
    """The view's filters; a parameter that the list doesn't know is an error that names it."""

    def filter_queryset(
        self, request: Request, queryset: QuerySet[M], view: APIView
    ) -> QuerySet[M]:
        filterset = self.get_filterset(request, queryset, view)
        known = {*Page.parameters, *(filterset.filters if filterset else ())}
        unknown = sorted(set(request.query_params) - known)
        if unknown:
            message = _("Unknown parameter. Known: %(known)s.") % {
                "known": ", ".join(sorted(known))
            }
            raise ValidationError(dict.fromkeys(unknown, message), code="unknown")
        filtered: QuerySet[M] = super().filter_queryset(request, queryset, view)
        return filtered


class NothingHere(APIView):
    """Every other address below /api: a 404 in the API's own shape, after the login check."""

    schema = None
    permission_classes = [IsAuthenticated]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound(_("There is nothing at this address."))
