"""Replies over HTTP: queued below what they answer, and followed here [S12]."""

from __future__ import annotations

import uuid
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, TypeVar

from django.db.models import Model, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from lifecycle.api.base import NoBody, actor
from sync import queries, services
from sync.api import request_bodies as bodies
from sync.api.base import Rows
from sync.api.filters import ReplyFilter
from sync.models import Comment, Reply
from sync.trail import act_on_reply

OPERATE = {"POST": "sync.operate_account"}
M = TypeVar("M", bound=Model)
JUST_NOW = timedelta(minutes=1)
LONGEST_KEY = 200
KEYS = uuid.UUID("6b0a5f6e-6d3c-4f43-9a55-6a7c1ce2a4a1")  # the namespace of idempotency keys

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Any text of yours, at most 200 characters: repeated, it queues once.",
)


def _queue(request: Request, target: Any) -> Response:
    """Queue what the request says as a reply: 201, or 200 when its key had queued it before."""
    body = bodies.NewReplySerializer(data=request.data)
    body.is_valid(raise_exception=True)
    who, key = actor(request), idempotency_key(request)
    queued = services.queue_reply(target, body.validated_data["text"], who, key)
    thread = target.post if isinstance(target, Comment) else target
    others = queries.written_by_others(thread, who, timezone.now() - JUST_NOW)
    shown = bodies.QueuedReplySerializer(
        queries.replies().get(pk=queued.reply.pk),
        context={"request": request, "others": others.values_list("pk", flat=True)[:10]},
    )
    where = reverse("reply-detail", [queued.reply.pk], request=request)
    return Response(shown.data, 201 if queued.is_new else 200, headers={"Location": where})


def idempotency_key(request: Request) -> uuid.UUID | None:
    """The header's text as the key of one reply of this user; None when there is none."""
    text = request.headers.get("Idempotency-Key")
    if text is None:
        return None
    if not (1 <= len(text) <= LONGEST_KEY and text.isascii() and text.isprintable()):
        message = _("Give 1 to %(most)s printable ASCII characters.") % {"most": LONGEST_KEY}
        raise ValidationError({"Idempotency-Key": message}, code="invalid")
    return uuid.uuid5(KEYS, f"{request.user.pk}:{text}")


class Answerable(Rows[M]):
    """Rows that people reply to; `answered` is the reply's column that names such a row."""

    answered: ClassVar[str]

    @extend_schema(
        methods=["POST"],
        request=bodies.NewReplySerializer,
        responses={201: bodies.QueuedReplySerializer, 200: bodies.QueuedReplySerializer},
        parameters=[IDEMPOTENCY_KEY],
    )
    @extend_schema(methods=["GET"], responses=bodies.ReplySerializer(many=True))
    @action(
        detail=True,
        methods=["get", "post"],
        serializer_class=bodies.ReplySerializer,
        filterset_class=ReplyFilter,
        orderings={"newest": "-pk"},
        permissions={"GET": "sync.view_reply", "POST": "sync.operate_account"},
    )
    def replies(self, request: Request, pk: str) -> Response:
        """Replies to it; POST queues one, which its account's worker sends."""
        target = self.get_object()
        if request.method == "POST":
            return _queue(request, target)
        found: QuerySet[Any] = queries.replies().filter(**{self.answered: target})
        rows = self.paginate_queryset(self.filter_queryset(found))
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)


class ReplyViewSet(Rows[Reply]):
    """What operators want said, and what became of it; the last queued first."""

    serializer_class = bodies.ReplySerializer
    filterset_class = ReplyFilter
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_reply"}

    def get_queryset(self) -> QuerySet[Reply]:
        return queries.replies()

    @extend_schema(request=NoBody, responses=bodies.ReplySerializer)
    @action(detail=True, methods=["post"], permissions=OPERATE)
    def cancel(self, request: Request, pk: str) -> Response:
        """Take it back before it is sent, or give a failed one up; see `may_have_been_sent`."""
        NoBody(data=request.data).is_valid(raise_exception=True)
        act_on_reply(
            request.user, self.get_object().pk, services.cancel_reply, "Taken back over the API."
        )
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=bodies.RetrySerializer, responses=bodies.ReplySerializer)
    @action(detail=True, methods=["post"], permissions=OPERATE)
    def retry(self, request: Request, pk: str) -> Response:
        """Try a failed one again; whether the platform has it after all is asked first."""
        body = bodies.RetrySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        anyway = body.validated_data["send_anyway"]
        act_on_reply(
            request.user,
            self.get_object().pk,
            partial(services.retry_reply, send_anyway=anyway),
            "Sent again anyway over the API." if anyway else "Tried again over the API.",
        )
        return Response(self.get_serializer(self.get_object()).data)
