"""Conversations, messages, posts and comments over HTTP."""

from __future__ import annotations

from typing import ClassVar

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from sync import platforms, queries, store
from sync.api import serializers as bodies
from sync.api.filters import (
    CommentFilter,
    ConversationFilter,
    ConversationMessageFilter,
    MessageFilter,
    PostFilter,
)
from sync.api.replies import Answerable
from sync.api.versions import Versioned
from sync.live.expanding import unread
from sync.models import Comment, Conversation, Message, Post
from sync.types import RecordKind


class ConversationViewSet(Answerable[Conversation]):
    """Conversations of all accounts, the latest first."""

    answered = "conversation"
    serializer_class = bodies.ConversationSerializer
    filterset_class = ConversationFilter
    orderings: ClassVar[dict[str, str]] = {"latest": "-last_message_at", "unread": "-unread_count"}
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_conversation"}

    def get_queryset(self) -> QuerySet[Conversation]:
        return queries.conversations()

    @extend_schema(responses=bodies.MessageSerializer(many=True))
    @action(
        detail=True,
        serializer_class=bodies.MessageSerializer,
        filterset_class=ConversationMessageFilter,
        orderings={"newest": "-sent_at"},
        permissions={"GET": "sync.view_message"},
    )
    def messages(self, request: Request, pk: str) -> Response:
        """The messages of a conversation, the newest first."""
        found = queries.messages(self.get_object().pk)
        rows = self.paginate_queryset(self.filter_queryset(found))  # type: ignore[arg-type]
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

    @extend_schema(request=bodies.UpToSerializer, responses=bodies.ReadSerializer)
    @action(detail=True, methods=["post"], permissions={"POST": "sync.operate_account"})
    def read(self, request: Request, pk: str) -> Response:
        """Mark the conversation read, up to a message of it or to its end."""
        body = bodies.UpToSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        conversation = self.get_object()
        up_to: int | None = body.validated_data.get("up_to")
        if up_to and not conversation.messages.filter(pk=up_to).exists():
            message = _("There is no message %(id)s in this conversation.") % {"id": up_to}
            raise ValidationError({"up_to": message}, code="unknown_message")
        read = store.mark_read(conversation.pk, up_to)
        conversation.refresh_from_db(fields=["unread_count"])
        return Response({"read": read, "unread": conversation.unread_count})


class MessageViewSet(Versioned[Message]):
    """Messages of all accounts, the last stored first. Filters other than `account` and
    `conversation` need one of these two; what is new in all of them comes by `/feed`."""

    kind = RecordKind.MESSAGE
    queryset = Message.objects.all()
    serializer_class = bodies.MessageSerializer
    filterset_class = MessageFilter
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_message"}


class PostViewSet(Answerable[Post], Versioned[Post]):
    """What accounts published, the newest first."""

    answered, kind = "post", RecordKind.POST
    queryset = Post.objects.all()
    serializer_class = bodies.PostSerializer
    filterset_class = PostFilter
    orderings: ClassVar[dict[str, str]] = {"newest": "-published_at", "stored_at": "pk"}
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_post"}


class CommentViewSet(Answerable[Comment], Versioned[Comment]):
    """Comments on posts, the last stored first. Other filters, and the ordering `published_at`,
    need `account` or `post`."""

    answered, kind = "comment", RecordKind.COMMENT
    queryset = Comment.objects.all()
    serializer_class = bodies.CommentSerializer
    filterset_class = CommentFilter
    orderings: ClassVar[dict[str, str]] = {"newest": "-pk", "published_at": "published_at"}
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_comment"}


class InboxViewSet(ViewSet):
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_conversation"}

    @extend_schema(responses=bodies.TotalsSerializer)
    @action(detail=False)
    def summary(self, request: Request) -> Response:
        """Totals over all accounts."""
        return Response(bodies.TotalsSerializer(queries.totals()).data)

    @extend_schema(responses=bodies.UnreadSerializer)
    @action(detail=False)
    def unread(self, request: Request) -> Response:
        """Unread messages: all, by platform, and of each account that has some."""
        accounts = queries.accounts_with_unread().values_list("pk", flat=True)
        return Response(bodies.UnreadSerializer(unread(set(accounts))).data)

    @extend_schema(request=bodies.ReadAllSerializer, responses=bodies.ReadSerializer)
    @action(detail=False, methods=["post"], permissions={"POST": "sync.operate_account"})
    def read(self, request: Request) -> Response:
        """Mark every message of every account read."""
        bodies.ReadAllSerializer(data=request.data).is_valid(raise_exception=True)
        read = store.mark_all_read()
        return Response({"read": read, "unread": queries.totals()["unread"]})


class PlatformViewSet(ViewSet):
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_account"}

    @extend_schema(responses=bodies.PlatformSerializer(many=True), filters=False)
    def list(self, request: Request) -> Response:
        """The platforms of this installation and what their accounts need. Not in pages."""
        found = [
            {
                "name": platform.name,
                "label": str(platform.label),
                "needs_endpoint": platform.needs_endpoint,
                "can_wait": platform.can_wait,
                "replies_to": sorted(platform.replies_to),
                "longest_reply": platform.longest_reply,
                "lists_ids": platform.lists_ids,
                "asks_person": platform.asks_person,
                "credentials": platform.credentials.model_json_schema(),
            }
            for _name, platform in sorted(platforms.registry().items())
        ]
        return Response(bodies.PlatformSerializer(found, many=True).data)
