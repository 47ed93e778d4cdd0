"""Is the process up, and can it do its work [O4]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import psycopg
from django.conf import settings
from django.db import OperationalError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema, inline_serializer
from kombu.exceptions import OperationalError as BrokerError
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from crm.celery import app

LIMIT_S = 2


@csrf_exempt  # so that a POST reads 405
@require_safe
@never_cache
def healthz(_request: HttpRequest) -> JsonResponse:
    """The process answers. The only page that needs no login (webhooks are none: they are signed);
    it touches nothing else."""
    return JsonResponse({"status": "ok"})


def database() -> str:
    """ "ok", or what is wrong with the database; an answer within about `LIMIT_S`.

    By a connection of its own: the pool would wait longer for a database that is not there.
    """
    limits = {"connect_timeout": LIMIT_S, "options": f"-c statement_timeout={LIMIT_S}s"}
    try:
        with psycopg.connect(**{**connection.get_connection_params(), **limits}) as link:
            link.execute("SELECT 1")
    except psycopg.Error as error:
        return f"away: {error}".strip()
    return "ok"


def broker() -> str:
    """ "ok", or what is wrong with the broker; an answer within about `LIMIT_S`."""
    limits = {"socket_connect_timeout": LIMIT_S, "socket_timeout": LIMIT_S}
    try:
        with app.connection_for_read(connect_timeout=LIMIT_S, transport_options=limits) as link:
            link.ensure_connection(max_retries=1, interval_start=0, timeout=LIMIT_S)
    except (BrokerError, OSError) as error:
        return f"away: {error}"
    return "ok"


class Readyz(APIView):
    """200 when this process can serve, else 503; either way each check by name."""

    permission_classes = [IsAuthenticated]

    checks: ClassVar[dict[str, Callable[[], str]]] = {"database": database, "broker": broker}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """To log in takes the database: when that is away, 503 is said here, in time."""
        named = "HTTP_AUTHORIZATION" in request.META
        if named or settings.SESSION_COOKIE_NAME in request.COOKIES:
            said = database()
            if said != "ok":
                raise OperationalError(said)
        super().initial(request, *args, **kwargs)

    @extend_schema(
        operation_id="readyz",
        tags=["health"],
        responses={
            (200, "application/json"): inline_serializer(
                "Ready",
                {
                    "ready": serializers.BooleanField(),
                    "checks": serializers.DictField(child=serializers.CharField()),
                },
            )
        },
    )
    def get(self, request: Request) -> Response:
        found = {name: check() for name, check in self.checks.items()}
        ready = all(said == "ok" for said in found.values())
        return Response({"ready": ready, "checks": found}, status=200 if ready else 503)
