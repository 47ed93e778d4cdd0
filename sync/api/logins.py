"""Login sessions over HTTP [S11]."""

from __future__ import annotations

from typing import ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from lifecycle.api.base import EventsOrError, NoBody, actor
from sync import queries, services
from sync.api import request_bodies as bodies
from sync.api.base import Rows
from sync.api.filters import LoginSessionFilter
from sync.models import LoginSession
from sync.qr import svg

OPERATE = {"POST": "sync.operate_account"}


class LoginSessionViewSet(Rows[LoginSession]):
    """Logins that somebody asked for; the last first. Asked for below their account."""

    serializer_class = bodies.LoginSessionSerializer
    filterset_class = LoginSessionFilter
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_loginsession"}

    def get_queryset(self) -> QuerySet[LoginSession]:
        return queries.login_sessions()

    @extend_schema(request=NoBody, responses=bodies.LoginSessionSerializer)
    @action(detail=True, methods=["post"], permissions=OPERATE)
    def cancel(self, request: Request, pk: str) -> Response:
        """Give it up; its worker ends it within a second."""
        NoBody(data=request.data).is_valid(raise_exception=True)
        services.cancel_login(self.get_object().pk, actor(request), timezone.now())
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=bodies.LoginAnswerSerializer, responses=bodies.LoginSessionSerializer)
    @action(detail=True, methods=["post"], permissions=OPERATE)
    def answer(self, request: Request, pk: str) -> Response:
        """Hand over what the login's address led back with, such as an OAuth code."""
        body = bodies.LoginAnswerSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        services.answer_login(self.get_object().pk, body.validated_data, timezone.now())
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(responses={(200, "image/svg+xml"): OpenApiTypes.STR}, filters=False)
    @action(
        detail=True,
        permissions={"GET": "sync.operate_account"},
        content_negotiation_class=EventsOrError,
    )
    def qr(self, request: Request, pk: str) -> HttpResponse:
        """The image to scan; 404 while there is none."""
        image = svg(self.get_object().qr_text)
        if not image:
            raise NotFound
        return HttpResponse(
            image, content_type="image/svg+xml", headers={"Cache-Control": "no-store"}
        )
