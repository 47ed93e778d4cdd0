"""Workers over HTTP [C1]: what they are, and wishes for what they should be."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    PolymorphicProxySerializer,
    extend_schema,
)
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from lifecycle import queries, services
from lifecycle.api import examples
from lifecycle.api import serializers as bodies
from lifecycle.api.base import EventsOrError, NoBody, actor
from lifecycle.api.errors import answer
from lifecycle.api.event_stream import EVENT_STREAM, EventStream
from lifecycle.api.filters import WorkerFilter
from lifecycle.api.followers import followers
from lifecycle.backends.base import LogStart
from lifecycle.errors import LifecycleError, Rejected, UnknownWorker
from lifecycle.logs import reading
from lifecycle.models import WorkerConfig, WorkerRuntime
from lifecycle.said import said
from lifecycle.types import STOP_TIMEOUT_MS, Level, State

OPERATE = {"POST": "lifecycle.operate_worker"}
STREAM, LINES = "stdout", 100
FOLLOWED = (
    "Each line is an event whose `data` is this object and whose `id` is the place behind it. "
    "An event `live` says that all that was there has been sent; `missed` that files were removed "
    "before they were read. A comment comes every 15 s. The stream ends after five minutes: come "
    "again with `Last-Event-ID`, as browsers do by themselves, and nothing is missed or repeated."
)
WISHED = {
    202: OpenApiResponse(bodies.WishedSerializer, "The wish was taken."),
    200: OpenApiResponse(bodies.WishedSerializer, "It was so already."),
}


class WorkerViewSet(GenericViewSet[WorkerRuntime]):
    """Workers as they are."""

    queryset = WorkerRuntime.objects.select_related("config")
    serializer_class = bodies.WorkerSerializer
    filterset_class: type[WorkerFilter] | None = WorkerFilter
    lookup_field = "worker_id"
    lookup_value_regex = "[^/]+"
    orderings: ClassVar[dict[str, str]] = {
        "worker_id": "config__worker_id",
        "state": "state",
        "started_at": "started_at",
        "last_heartbeat_at": "last_heartbeat_at",
        "cpu_usage": "cpu_usage",
        "memory_usage_mb": "memory_usage_mb",
        "assigned_accounts": "assigned_accounts",
        "restart_count": "restart_count",
    }
    permissions: ClassVar[dict[str, str]] = {"GET": "lifecycle.view_workerruntime"}

    def list(self, request: Request) -> Response:
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset())) or []
        now = timezone.now()
        lines = [
            {
                **queries.status(runtime, now),
                "name": runtime.config.name,
                "deployment_type": runtime.config.deployment_type,
                "enabled": runtime.config.enabled,
            }
            for runtime in rows
        ]
        return self.get_paginated_response(self.get_serializer(lines, many=True).data)

    @extend_schema(
        request=NoBody,
        responses=WISHED,
        examples=[examples.STARTED],
        description="Answers once the process exists, or after 5 s with what is known.",
    )
    @action(detail=True, methods=["post"], permissions=OPERATE)
    def start(self, request: Request, worker_id: str) -> Response:
        NoBody(data=request.data).is_valid(raise_exception=True)
        wished = services.request_start(worker_id, actor(request))
        runtime = services.wait_for_process(worker_id)
        if runtime.state == State.ERROR:
            raise Rejected(worker_id, said(runtime.reason))
        return _wished(wished, runtime)

    @extend_schema(request=bodies.StopSerializer, responses=WISHED, examples=[examples.STOP])
    @action(detail=True, methods=["post"], permissions=OPERATE)
    def stop(self, request: Request, worker_id: str) -> Response:
        """Gracefully: running tasks may end within `timeout` ms. Forced: at once."""
        wished = services.request_stop(worker_id, actor(request), **_how(request))
        return _wished(wished, queries.runtime(worker_id), wished.state)

    @extend_schema(request=bodies.RestartSerializer, responses=WISHED, examples=[examples.RESTART])
    @action(detail=True, methods=["post"], permissions=OPERATE)
    def restart(self, request: Request, worker_id: str) -> Response:
        """Replace the process by one with the present config. A stopped worker is started."""
        how = _how(request, bodies.RestartSerializer)
        wished = services.request_restart(worker_id, actor(request), **how)
        return _wished(wished, queries.runtime(worker_id), wished.state)

    @extend_schema(responses=bodies.StatusSerializer)
    @action(detail=True)
    def status(self, request: Request, worker_id: str) -> Response:
        """Everything that is known of the worker now."""
        found = queries.status(queries.runtime(worker_id), timezone.now())
        return Response(bodies.StatusSerializer(found).data)

    @extend_schema(responses=bodies.HealthSerializer, examples=[examples.HEALTHY])
    @action(detail=True)
    def health(self, request: Request, worker_id: str) -> Response:
        """Whether the worker does its work, check by check."""
        found = queries.health(queries.runtime(worker_id), timezone.now())
        return Response(bodies.HealthSerializer(found).data)

    @extend_schema(
        parameters=[bodies.LogQuerySerializer],
        responses=PolymorphicProxySerializer(
            "WorkerLogs", [bodies.ProcessLogSerializer, bodies.LifecycleLogSerializer], None
        ),
    )
    @action(detail=True)
    def logs(self, request: Request, worker_id: str) -> Response:
        """Two logs: with `stream` or `tail` (or no parameter at all) what the process printed,
        oldest line first, over all kept files; `level` and `since` then choose among its lines.
        With `level`, `limit` or `since` alone what happened to the worker, newest first."""
        query = bodies.LogQuerySerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        asked: dict[str, Any] = query.validated_data
        of_process = not asked or bool(asked.keys() & {"tail", "stream"})
        if of_process and "limit" in asked:
            text = _("'limit' is for the lifecycle log; with 'stream' use 'tail'.")
            raise ValidationError({"limit": text}, code="mixed")
        config = queries.runtime(worker_id).config
        if not of_process:
            return _lifecycle_log(worker_id, asked)
        return _process_log(config, asked)

    @extend_schema(
        parameters=[
            bodies.FollowQuerySerializer,
            OpenApiParameter("Last-Event-ID", str, "header", description="Go on behind this."),
        ],
        responses={(200, EVENT_STREAM): OpenApiResponse(bodies.LoggedLineSerializer, FOLLOWED)},
    )
    @action(
        detail=True,
        url_path="logs/stream",
        content_negotiation_class=EventsOrError,
    )
    def follow(self, request: Request, worker_id: str) -> HttpResponseBase:
        """What the process prints, as server-sent events: first the last lines, then each line as
        it comes, without a hole or a repeat over rotations, crashes and restarts."""
        asked = request.query_params.dict()
        if resumed := request.headers.get("Last-Event-ID"):
            asked["after"] = resumed
        query = bodies.FollowQuerySerializer(data=asked)
        query.is_valid(raise_exception=True)
        found = query.validated_data
        config = queries.runtime(worker_id).config
        start = LogStart(after=found.get("after"), tail=found["tail"])
        slot = followers.take(request.user.pk)
        hide = reading.redactor(config)
        source = reading.open_followed(config, found["stream"], start)
        events = reading.server_sent(source, hide)
        response = EventStream(request._request, events)  # noqa: SLF001 - it has no other
        response.slot = slot
        return response

    @extend_schema(
        parameters=[bodies.MetricsQuerySerializer],
        responses=bodies.MetricsSerializer,
        examples=[examples.METRICS],
    )
    @action(detail=True)
    def metrics(self, request: Request, worker_id: str) -> Response:
        """CPU, memory, tasks and errors over time."""
        query = bodies.MetricsQuerySerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        found = queries.metrics(worker_id, query.validated_data["period"], timezone.now())
        return Response(bodies.MetricsSerializer(found).data)

    @extend_schema(
        request=bodies.BatchSerializer,
        responses=bodies.BatchAnswerSerializer,
        examples=[examples.BATCH],
    )
    @action(detail=False, methods=["post"], permissions=OPERATE)
    def batch(self, request: Request) -> Response:
        """Start, stop or restart many workers. One that can't be doesn't hold up the others."""
        body = bodies.BatchSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        verb = body.validated_data["action"]
        options = _options(body.validated_data.get("options"), restarts=verb == "restart")
        ids = dict.fromkeys(body.validated_data["worker_ids"])
        known = queries.known_workers(ids)
        results = [
            _one(verb, worker_id, actor(request), options)
            if worker_id in known
            else _failed(worker_id, UnknownWorker(worker_id))
            for worker_id in ids
        ]
        failed = sum(not result["success"] for result in results)
        found = {
            "success": not failed,
            "action": verb,
            "succeeded": len(results) - failed,
            "failed": failed,
            "results": results,
        }
        return Response(bodies.BatchAnswerSerializer(found).data)

    @extend_schema(responses=bodies.OverviewSerializer, examples=[examples.OVERVIEW])
    @action(detail=False, url_path="stats/overview")
    def overview(self, request: Request) -> Response:
        """The fleet in figures."""
        return Response(bodies.OverviewSerializer(queries.overview()).data)


def _how(
    request: Request, shape: type[bodies.StopSerializer] = bodies.StopSerializer
) -> dict[str, Any]:
    body = shape(data=request.data)
    body.is_valid(raise_exception=True)
    return _options(body.validated_data, restarts=shape is bodies.RestartSerializer)


def _options(given: dict[str, Any] | None, *, restarts: bool) -> dict[str, Any]:
    """`graceful`, `timeout` and `replace` of a body as the services call them."""
    given = given or {}
    how = {
        "graceful": given.get("graceful", True),
        "timeout_ms": given.get("timeout", STOP_TIMEOUT_MS),
    }
    return how | ({"replace_first": given.get("replace", True)} if restarts else {})


def _wished(wished: services.Wished, runtime: WorkerRuntime, state: str | None = None) -> Response:
    """What became of a wish; `state` is what comes next, where the answer does not wait for it."""
    found = {
        "success": True,
        "worker_id": wished.worker_id,
        "status": state or runtime.state,
        "process_id": runtime.process_id,
        "reason": runtime.reason,
    }
    return Response(bodies.WishedSerializer(found).data, 202 if wished.changed else 200)


def _process_log(config: WorkerConfig, asked: dict[str, Any]) -> Response:
    stream, tail = asked.get("stream", STREAM), asked.get("tail", LINES)
    level = Level(asked["level"]) if "level" in asked else None
    found = reading.read(config, stream, tail, level=level, since=asked.get("since"))
    body = {
        "worker_id": config.worker_id,
        "stream": stream,
        "lines": [line.text for line in found.lines],
        "truncated": found.truncated,
        "cursor": str(found.end),
    }
    return Response(bodies.ProcessLogSerializer(body).data)


def _lifecycle_log(worker_id: str, asked: dict[str, Any]) -> Response:
    rows = queries.lifecycle_log(
        worker_id,
        level=asked.get("level"),
        since=asked.get("since"),
        limit=asked.get("limit", LINES),
    )
    return Response(bodies.LifecycleLogSerializer({"worker_id": worker_id, "logs": rows}).data)


def _one(verb: str, worker_id: str, who: str, options: dict[str, Any]) -> dict[str, Any]:
    """One worker's part of a batch."""
    try:
        match verb:
            case "start":
                wished = services.request_start(worker_id, who)
            case "stop":
                wished = services.request_stop(worker_id, who, **options)
            case _:
                wished = services.request_restart(worker_id, who, **options)
    except LifecycleError as error:
        return _failed(worker_id, error)
    done = {"worker_id": worker_id, "success": True, "changed": wished.changed}
    return {**done, "status": wished.state, "error": None}


def _failed(worker_id: str, error: LifecycleError) -> dict[str, Any]:
    failure = {"code": answer(error)[1], "detail": said(str(error))}
    nothing = {"worker_id": worker_id, "success": False, "changed": False, "status": None}
    return {**nothing, "error": failure}
