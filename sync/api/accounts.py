"""Accounts, their receipts, logins, gaps and audits over HTTP."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import ViewSet

from lifecycle.api.base import NoBody, actor
from lifecycle.balance import Strategy
from sync import queries, services, store
from sync.api import ledger_bodies, request_bodies
from sync.api import serializers as bodies
from sync.api.base import Rows
from sync.api.filters import (
    AccountFilter,
    AuditFilter,
    GapFilter,
    LoginSessionFilter,
    ServerFilter,
    SyncRunFilter,
)
from sync.models import Account, PlatformServer, SyncRun
from sync.trail import settle_gap

OPERATE = {"POST": "sync.operate_account"}
ONE_GAP = f"gaps/(?P<gap>{Rows.lookup_value_regex})"
GAP_ID = OpenApiParameter("gap", int, OpenApiParameter.PATH)


class AccountViewSet(Rows[Account]):
    """Accounts that are watched. Credentials go in and never come out."""

    serializer_class = bodies.AccountSerializer
    filterset_class = AccountFilter
    orderings: ClassVar[dict[str, str]] = {
        "identifier": "identifier",
        "name": "name",
        "created_at": "created_at",
        "last_sync_at": "last_sync_at",
        "unread_total": "unread_total",
    }
    permissions: ClassVar[dict[str, str]] = {
        "GET": "sync.view_account",
        "POST": "sync.add_account",
        "PATCH": "sync.change_account",
        "DELETE": "sync.delete_account",
    }

    def get_queryset(self) -> QuerySet[Account]:
        return queries.accounts()

    def create(self, request: Request) -> Response:
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        account = services.create_account(body.validated_data)
        where = reverse("account-detail", [account.pk], request=request)
        return Response(self._shown(account), 201, headers={"Location": where})

    def partial_update(self, request: Request, pk: str) -> Response:
        """Changed credentials, endpoint or `enabled` end the session: the account logs in anew."""
        account = self.get_object()
        body = self.get_serializer(account, data=request.data, partial=True)
        body.is_valid(raise_exception=True)
        return Response(self._shown(services.update_account(account, body.validated_data)))

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Everything that was stored of the account goes with it."""
        services.delete_account(self.get_object())
        return Response(status=204)

    @extend_schema(request=NoBody, responses={202: bodies.CheckSerializer})
    @action(detail=True, methods=["post"], permissions=OPERATE)
    def check(self, request: Request, pk: str) -> Response:
        """Have the account checked now instead of at its next turn."""
        NoBody(data=request.data).is_valid(raise_exception=True)
        account = self.get_object()
        services.check_now(account.pk)
        return Response({"success": True, "id": account.pk}, 202)

    @extend_schema(request=NoBody, responses=bodies.ReadSerializer)
    @action(detail=True, methods=["post"], permissions=OPERATE)
    def read(self, request: Request, pk: str) -> Response:
        """Mark every message of the account read."""
        NoBody(data=request.data).is_valid(raise_exception=True)
        account = self.get_object()
        read = store.mark_all_read(account.pk)
        account.refresh_from_db(fields=["unread_total"])
        return Response({"read": read, "unread": account.unread_total})

    @extend_schema(
        methods=["POST"], request=NoBody, responses={201: request_bodies.LoginSessionSerializer}
    )
    @extend_schema(methods=["GET"], responses=request_bodies.LoginSessionSerializer(many=True))
    @action(
        detail=True,
        methods=["get", "post"],
        url_path="login-sessions",
        serializer_class=request_bodies.LoginSessionSerializer,
        filterset_class=LoginSessionFilter,
        orderings={"newest": "-pk"},
        permissions={"GET": "sync.view_loginsession", "POST": "sync.operate_account"},
    )
    def login_sessions(self, request: Request, pk: str) -> Response:
        """The account's logins; POST asks its worker for one. 409 while another is under way."""
        account = self.get_object()
        if request.method == "GET":
            return self._listed(queries.login_sessions().filter(account=account))
        NoBody(data=request.data).is_valid(raise_exception=True)
        session = services.ask_login(account.pk, actor(request), timezone.now())
        where = reverse("login-session-detail", [session.pk], request=request)
        shown = self.get_serializer(queries.login_sessions().get(pk=session.pk))
        return Response(shown.data, 201, headers={"Location": where})

    @extend_schema(responses=ledger_bodies.GapSerializer(many=True))
    @action(
        detail=True,
        serializer_class=ledger_bodies.GapSerializer,
        filterset_class=GapFilter,
        orderings={"newest": "-pk"},
        permissions={"GET": "sync.view_gap"},
    )
    def gaps(self, request: Request, pk: str) -> Response:
        """What the platform has and we don't (yet), with both ends; closed ones included."""
        return self._listed(queries.gaps(self.get_object().pk))

    @extend_schema(request=NoBody, responses=ledger_bodies.GapSerializer, parameters=[GAP_ID])
    @action(detail=True, methods=["post"], url_path=f"{ONE_GAP}/accept", permissions=OPERATE)
    def accept_gap(self, request: Request, pk: str, gap: str) -> Response:
        """What is missing is lost: it no longer keeps audits from calling the rest complete. The
        gap closes should it come after all; `reopen` undoes this. 409 when it is closed."""
        return self._settle_gap(request, gap, accept=True)

    @extend_schema(request=NoBody, responses=ledger_bodies.GapSerializer, parameters=[GAP_ID])
    @action(detail=True, methods=["post"], url_path=f"{ONE_GAP}/reopen", permissions=OPERATE)
    def reopen_gap(self, request: Request, pk: str, gap: str) -> Response:
        """Undo `accept`."""
        return self._settle_gap(request, gap, accept=False)

    def _settle_gap(self, request: Request, gap: str, *, accept: bool) -> Response:
        NoBody(data=request.data).is_valid(raise_exception=True)
        found = get_object_or_404(queries.gaps(self.get_object().pk), pk=gap)
        settle_gap(request.user, found, accept=accept)
        return Response(ledger_bodies.GapSerializer(found).data)

    @extend_schema(
        methods=["POST"],
        request=ledger_bodies.NewAuditSerializer,
        responses={202: ledger_bodies.AuditSerializer},
    )
    @extend_schema(methods=["GET"], responses=ledger_bodies.AuditSerializer(many=True))
    @action(
        detail=True,
        methods=["get", "post"],
        serializer_class=ledger_bodies.AuditSerializer,
        filterset_class=AuditFilter,
        orderings={"newest": "-pk"},
        permissions={"GET": "sync.view_audit", "POST": "sync.operate_account"},
    )
    def audits(self, request: Request, pk: str) -> Response:
        """Comparisons of the platform's ids with ours; POST has the account compared now."""
        account = self.get_object()
        if request.method == "GET":
            return self._listed(queries.audits(account.pk))
        body = ledger_bodies.NewAuditSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        audit = services.ask_audit(
            account.pk, actor(request), timezone.now(), full=body.validated_data["full"]
        )
        return Response(self.get_serializer(audit).data, 202)

    def _listed(self, found: QuerySet[Any]) -> Response:
        rows = self.paginate_queryset(self.filter_queryset(found))
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

    def _shown(self, account: Account) -> Any:
        """As a later GET shows it: with what the database filled in."""
        return self.get_serializer(self.get_queryset().get(pk=account.pk)).data


class AssignmentViewSet(ViewSet):
    """How accounts are given to workers, and whether some wait for one."""

    permissions: ClassVar[dict[str, str]] = {
        "GET": "sync.view_account",
        "PATCH": "sync.operate_account",
    }

    @extend_schema(operation_id="assignment_retrieve", responses=bodies.AssignmentSerializer)
    def retrieve(self, request: Request) -> Response:
        return self._shown()

    @extend_schema(
        request=bodies.AssignmentSerializer(partial=True), responses=bodies.AssignmentSerializer
    )
    def partial_update(self, request: Request) -> Response:
        """Choose the strategy for the next accounts; none moves because of it."""
        body = bodies.AssignmentSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        services.set_strategy(Strategy(body.validated_data["strategy"]), actor(request))
        return self._shown()

    def _shown(self) -> Response:
        placement = queries.placement()
        found = {
            "strategy": queries.strategy(),
            "waiting_accounts": placement.waiting,
            "assigned_accounts": placement.served,
            "capacity": placement.capacity,
            "running_workers": placement.running,
            "reason": placement.reason,
        }
        return Response(bodies.AssignmentSerializer(found).data)


class SyncRunViewSet(Rows[SyncRun]):
    """Receipts: what each committed batch did, and why a check failed. Other filters need
    `account`; which accounts fail at present is `/accounts?failing=true`."""

    queryset = SyncRun.objects.all()
    serializer_class = bodies.SyncRunSerializer
    filterset_class = SyncRunFilter
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_syncrun"}


class ServerViewSet(Rows[PlatformServer]):
    """Servers of platforms that failed, and whether they are asked at present."""

    serializer_class = bodies.ServerSerializer
    filterset_class = ServerFilter
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_account"}

    def get_queryset(self) -> QuerySet[PlatformServer]:
        return PlatformServer.objects.all()
