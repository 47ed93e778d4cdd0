"""What platforms pushed, and where they push it to, over HTTP.

The address itself is no part of this API: `sync.hooks.receiver` answers it, without a login.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from lifecycle.api.serializers import ANYTHING
from sync import hooks, platforms, queries
from sync.api.base import Rows
from sync.api.filters import HookDeliveryFilter
from sync.models import Account, HookDelivery, HookEndpoint
from sync.types import AccountRef


class HookDeliverySerializer(serializers.ModelSerializer[HookDelivery]):
    account_name = serializers.CharField(source="account", read_only=True)
    platform = serializers.CharField(source="account.platform", read_only=True)

    class Meta:
        model = HookDelivery
        fields: ClassVar[list[str]] = [
            *("id", "account", "account_name", "platform", "delivery_id", "number", "state"),
            *("error", "repeats", "received_at", "processed_at"),
        ]
        read_only_fields = fields


class HookDeliveryDetailSerializer(HookDeliverySerializer):
    """With what was pushed, for those who operate accounts."""

    headers = serializers.SerializerMethodField()
    body = serializers.SerializerMethodField(help_text="As text; what is no UTF-8 is replaced.")

    class Meta(HookDeliverySerializer.Meta):
        fields: ClassVar[list[str]] = [*HookDeliverySerializer.Meta.fields, "headers", "body"]
        read_only_fields = fields

    @extend_schema_field({**ANYTHING, "nullable": True})
    def get_headers(self, delivery: HookDelivery) -> dict[str, Any] | None:
        return dict(delivery.headers) if self._may_see() else None

    @extend_schema_field({"type": "string", "nullable": True})
    def get_body(self, delivery: HookDelivery) -> str | None:
        return bytes(delivery.body).decode(errors="replace") if self._may_see() else None

    def _may_see(self) -> bool:
        return bool(self.context["request"].user.has_perm("sync.operate_account"))


class HookDeliveryViewSet(Rows[HookDelivery]):
    """Webhook deliveries, the last first: taken, read, or refused with the reason."""

    filterset_class = HookDeliveryFilter
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_hookdelivery"}

    def get_queryset(self) -> QuerySet[HookDelivery]:
        rows = queries.deliveries()
        return rows if self.action == "list" else rows.defer(None).defer(*queries.OF_ACCOUNT)

    def get_serializer_class(self) -> type[HookDeliverySerializer]:
        if self.action == "list":
            return HookDeliverySerializer
        return HookDeliveryDetailSerializer


class SetupStepSerializer(serializers.Serializer[Any]):
    where = serializers.CharField(help_text="At the platform.")
    what = serializers.CharField(help_text="To be entered there; secrets are named, not shown.")


class HookSerializer(serializers.ModelSerializer[HookEndpoint]):
    """Where the platform pushes an account's news to, and what came; counts are of requests."""

    url = serializers.CharField()
    setup = SetupStepSerializer(many=True)

    class Meta:
        model = HookEndpoint
        fields: ClassVar[list[str]] = [
            *("url", "setup", "accepted", "repeated", "rejected", "malformed", "too_large"),
            *("throttled", "unavailable", "missed", "last_rejected_at", "last_rejection"),
        ]
        read_only_fields = fields


class AccountHookViewSet(ViewSet):
    permissions: ClassVar[dict[str, str]] = {"GET": "sync.view_account"}

    @extend_schema(operation_id="account_hook_retrieve", responses=HookSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """What to enter at the platform, and what came. 404 where the platform doesn't push."""
        account = get_object_or_404(queries.accounts(), pk=pk)
        found = platforms.registry().get(account.platform)
        if found is None or found.hooks is None:
            raise NotFound
        url = request.build_absolute_uri(hooks.path(account.platform, account.pk))
        endpoint: Any = queries.hook_endpoint(account.pk)
        endpoint.url = url
        endpoint.setup = [
            {"where": str(where), "what": str(what)}
            for where, what in found.hooks.setup(bare(account), url)
        ]
        return Response(HookSerializer(endpoint).data)


def bare(account: Account) -> AccountRef:
    """What an adapter may know of an account whose secrets nobody has asked for."""
    return AccountRef(account.pk, account.platform, account.identifier, account.endpoint, {}, {})
