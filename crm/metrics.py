"""`/metrics` for Prometheus [O4, S8]."""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry, generate_latest
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sync.metrics import SyncCollector

CACHED_S = 5.0  # several scrapers, or a hasty one, cost no more than one


class TextFormat(BaseRenderer):
    """Prometheus' text format, version 0.0.4; errors stay JSON in the one shape."""

    media_type = "text/plain"
    format = "txt"
    charset = "utf-8"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return data if isinstance(data, bytes) else JSONRenderer().render(data)


class _Cached:
    """The last answer of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._text, self._made_at = b"", float("-inf")

    def text(self) -> bytes:
        with self._guard:
            if time.monotonic() > self._made_at + CACHED_S:
                registry = CollectorRegistry(auto_describe=False)
                registry.register(SyncCollector(timezone.now()))
                self._text, self._made_at = generate_latest(registry), time.monotonic()
            return self._text

    def forget(self) -> None:
        self._made_at = float("-inf")


cached = _Cached()


class Metrics(APIView):
    """All series, from the database: the same whichever web process answers."""

    renderer_classes = [TextFormat]
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_account"}

    @extend_schema(operation_id="metrics", tags=["health"], responses={(200, "text/plain"): str})
    def get(self, request: Request) -> Response:
        return Response(cached.text())
