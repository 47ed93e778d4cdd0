"""The feed over HTTP [S10]: as server-sent events that go on for hours, and as plain JSON."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.viewsets import ViewSet

from lifecycle.api.base import EventsOrError, Strict
from lifecycle.api.event_stream import EVENT_STREAM, EventStream
from sync import feed
from sync.api.serializers import ConversationSerializer, UnreadSerializer
from sync.live import PERMISSION, News, follow
from sync.live.rights import login_of
from sync.models import FeedEntry

MOST_ENTRIES = 500
FURTHEST = 2**63 - 1
DESCRIBED = (
    "Events: `changes`, one for each commit, its `id` the position; `live`: all that there was has "
    "been sent; `reset`: what follows `since` is no longer kept (7 days), load everything anew; "
    "`away`: the database can't be reached now, `live` follows; `denied`: token, session or right "
    "has ended, and so does the stream; `beat`, and a comment, every 15 s. Who reads too slowly is "
    "disconnected and goes on with `Last-Event-ID`."
)


class SinceSerializer(Strict):
    since = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=FURTHEST,
        help_text="The last position that you have; default: from now on. 0: from the beginning.",
    )


class FeedQuerySerializer(SinceSerializer):
    limit = serializers.IntegerField(
        default=100, min_value=1, max_value=MOST_ENTRIES, help_text="Entries in one answer."
    )


class FeedEntrySerializer(serializers.ModelSerializer[FeedEntry]):
    """What one commit changed: kind → operation → ids.

    Kinds: `conversation`, `message`, `post`, `comment`, `reply`, `login_session`, `account`;
    operations: `new`, `changed`, `read`.
    """

    changes = serializers.DictField(
        child=serializers.DictField(child=serializers.ListField(child=serializers.IntegerField()))
    )

    class Meta:
        model = FeedEntry
        fields: ClassVar[list[str]] = ["position", "account_id", "changes", "created_at"]
        read_only_fields = fields


class FeedSerializer(serializers.Serializer[Any]):
    entries = FeedEntrySerializer(many=True)
    position = serializers.IntegerField(help_text="`since` of the next request.")
    more = serializers.BooleanField(help_text="There are further ones: ask again at once.")


class NewsSerializer(serializers.Serializer[Any]):
    """An entry with what people see of it: rows as they are now."""

    position = serializers.IntegerField()
    account_id = serializers.IntegerField()
    changes = FeedEntrySerializer().fields["changes"]
    created_at = serializers.DateTimeField(source="at")
    conversations = ConversationSerializer(many=True)
    messages = serializers.DictField(help_text="Conversation id → operation → message ids.")
    unread = UnreadSerializer(allow_null=True)
    is_whole = serializers.BooleanField(
        help_text="False: too many rows for one event, some are left out; load your lists anew."
    )


_NEWS = NewsSerializer()  # to make its fields takes longer than to use them
_JSON = JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def as_json(news: News) -> bytes:
    """The event of one entry, as the schema describes it."""
    said = _JSON.encode(_NEWS.to_representation(news))
    return f"event: changes\nid: {news.position}\ndata: {said}\n\n".encode()


class FeedViewSet(ViewSet):
    permissions: ClassVar[dict[str, str]] = {"GET": PERMISSION}

    @extend_schema(
        parameters=[FeedQuerySerializer], responses=FeedSerializer, operation_id="feed_list"
    )
    def list(self, request: Request) -> Response:
        """What changed since a position, oldest first, each commit once and without a hole.

        Without `since` there are no entries, only the present position to begin from. 410 when the
        feed no longer goes back that far: load everything anew.
        """
        query = FeedQuerySerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        since, limit = query.validated_data.get("since"), query.validated_data["limit"]
        entries = [] if since is None else feed.read_after(since, limit)
        position = feed.head() if since is None else since
        found = {
            "entries": entries,
            "position": entries[-1].position if entries else position,
            "more": len(entries) == limit,
        }
        return Response(FeedSerializer(found).data)


class EventsViewSet(ViewSet):
    permissions: ClassVar[dict[str, str]] = {"GET": PERMISSION}
    content_negotiation_class = EventsOrError

    @extend_schema(
        parameters=[
            SinceSerializer,
            OpenApiParameter("Last-Event-ID", int, "header", description="Counts before `since`."),
        ],
        responses={(200, EVENT_STREAM): OpenApiResponse(NewsSerializer, DESCRIBED)},
        operation_id="events",
    )
    def list(self, request: Request) -> HttpResponseBase:
        """What changes, as server-sent events: in order, once, without a hole."""
        asked = request.query_params.dict()
        if resumed := request.headers.get("Last-Event-ID"):
            asked["since"] = resumed
        query = SinceSerializer(data=asked)
        query.is_valid(raise_exception=True)
        events = follow(login_of(request), as_json, query.validated_data.get("since"))
        return EventStream(request._request, events)  # noqa: SLF001 - it has no other
