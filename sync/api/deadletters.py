"""Dead letters over HTTP: read, repair, replay, discard, reopen [S6]."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from lifecycle.api.base import NoBody, actor
from sync import queries, services
from sync.api import ledger_bodies as bodies
from sync.api.base import Rows
from sync.api.filters import DeadLetterFilter
from sync.models import DeadLetter
from sync.trail import leave_trail

RESOLVE = "sync.resolve_deadletter"


class DeadLetterViewSet(Rows[DeadLetter]):
    """Records that could not be stored, with the reason."""

    filterset_class = DeadLetterFilter
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_deadletter"}

    def get_queryset(self) -> QuerySet[DeadLetter]:
        if self.action == "retrieve":
            return DeadLetter.objects.select_related("account").defer(*queries.OF_ACCOUNT)
        return queries.dead_letters()

    def get_serializer_class(self) -> type[bodies.DeadLetterSerializer]:
        if self.action == "retrieve":
            return bodies.DeadLetterDetailSerializer
        return bodies.DeadLetterSerializer

    def get_serializer_context(self) -> dict[str, Any]:
        may_see = self.request.user.has_perm(RESOLVE)
        return {**super().get_serializer_context(), "may_see_raw": may_see}

    @extend_schema(responses=bodies.DeadLetterDetailSerializer)
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """With the record itself, for those who may repair it; each look is in its history."""
        letter = self.get_object()
        if request.user.has_perm(RESOLVE):
            leave_trail(request.user, letter, "Record seen over the API.")
        return Response(self.get_serializer(letter).data)

    @extend_schema(request=bodies.FixSerializer, responses=bodies.DeadLetterSerializer)
    @action(detail=True, methods=["post"], permissions={"POST": RESOLVE})
    def fix(self, request: Request, pk: str) -> Response:
        """Put a repaired record beside the raw one, in our own shape; `replay` then stores it."""
        body = bodies.FixSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        given = body.validated_data
        letter = self.get_object()
        services.fix_dead_letter(letter.pk, given["kind"], given["record"], actor(request))
        return self._done(letter, "Repaired.")

    @extend_schema(request=NoBody, responses=bodies.DeadLetterSerializer)
    @action(detail=True, methods=["post"], permissions={"POST": RESOLVE})
    def replay(self, request: Request, pk: str) -> Response:
        """Store what it holds now; 409 with the reason when it still can't be stored."""
        NoBody(data=request.data).is_valid(raise_exception=True)
        letter = self.get_object()
        services.replay_dead_letter(letter.pk, actor(request))
        return self._done(letter, "Replayed.")

    @extend_schema(request=NoBody, responses=bodies.DeadLetterSerializer)
    @action(detail=True, methods=["post"], permissions={"POST": RESOLVE})
    def discard(self, request: Request, pk: str) -> Response:
        """Nobody needs it. It is kept, and `reopen` undoes this."""
        NoBody(data=request.data).is_valid(raise_exception=True)
        letter = self.get_object()
        services.discard_dead_letter(letter.pk, actor(request))
        return self._done(letter, "Discarded.")

    @extend_schema(request=NoBody, responses=bodies.DeadLetterSerializer)
    @action(detail=True, methods=["post"], permissions={"POST": RESOLVE})
    def reopen(self, request: Request, pk: str) -> Response:
        """Undo a discard."""
        NoBody(data=request.data).is_valid(raise_exception=True)
        letter = self.get_object()
        services.reopen_dead_letter(letter.pk, actor(request))
        return self._done(letter, "Reopened.")

    @extend_schema(
        request=bodies.DeadLetterBatchSerializer, responses=bodies.DeadLetterBatchAnswerSerializer
    )
    @action(detail=False, methods=["post"], permissions={"POST": RESOLVE})
    def batch(self, request: Request) -> Response:
        """Replay, discard or reopen many. One that can't be doesn't hold up the others."""
        body = bodies.DeadLetterBatchSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        act = body.validated_data["action"]
        done = services.resolve_dead_letters(act, body.validated_data["ids"], actor(request))
        results = [
            {
                "id": one.letter_id,
                "success": not one.code,
                "state": one.state,
                "error": {"code": one.code, "detail": one.error} if one.code else None,
            }
            for one in done
        ]
        failed = sum(bool(one.code) for one in done)
        found = {
            "success": not failed,
            "action": act,
            "succeeded": len(done) - failed,
            "failed": failed,
            "results": results,
        }
        return Response(bodies.DeadLetterBatchAnswerSerializer(found).data)

    def _done(self, letter: DeadLetter, what: str) -> Response:
        leave_trail(self.request.user, letter, what)
        return Response(self.get_serializer(queries.dead_letters().get(pk=letter.pk)).data)
