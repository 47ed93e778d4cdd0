"""The bodies of the books: gaps, audits, dead letters."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from lifecycle.api.base import Strict
from lifecycle.api.serializers import ANYTHING, BatchErrorSerializer
from sync.models import Audit, DeadLetter, Gap
from sync.services.deadletters import ACTIONS, MOST_AT_ONCE
from sync.types import RecordKind


class GapSerializer(serializers.ModelSerializer[Gap]):
    """A stretch that the platform has and we don't, with its two ends; open until what is missing
    is stored. `accepted_at`: when somebody accepted it as lost."""

    class Meta:
        model = Gap
        fields: ClassVar[list[str]] = [
            *("id", "account", "scope", "newer_end", "older_end", "reason"),
            *("found_at", "closed_at", "accepted_at", "accepted_by"),
        ]
        read_only_fields = fields


class AuditSerializer(serializers.ModelSerializer[Audit]):
    """One comparison of the platform's ids with ours; `repaired` counts rows that were written."""

    class Meta:
        model = Audit
        fields: ClassVar[list[str]] = [
            *("id", "account", "outcome", "since", "until", "listed", "missing", "outdated"),
            *("vanished", "repaired", "error", "asked_by", "started_at", "finished_at"),
        ]
        read_only_fields = fields


class NewAuditSerializer(Strict):
    full = serializers.BooleanField(
        default=False,
        help_text="From the account's beginning; else what was not yet proven, and 30 days.",
    )


class DeadLetterSerializer(serializers.ModelSerializer[DeadLetter]):
    account_name = serializers.CharField(source="account", read_only=True)
    platform = serializers.CharField(source="account.platform", read_only=True)

    class Meta:
        model = DeadLetter
        fields: ClassVar[list[str]] = [
            *("id", "account", "account_name", "platform", "kind", "external_id", "shape", "size"),
            *("error", "state", "replays", "resolved_at", "resolved_by", "created_at"),
        ]
        read_only_fields = fields


@extend_schema_field({**ANYTHING, "nullable": True})
class Encrypted(serializers.Field[Any, Any, Any, Any]):
    """A decrypted object, for those who may see it; null for others."""

    def to_representation(self, value: Any) -> dict[str, Any] | None:
        return dict(value) if self.context["may_see_raw"] else None


class DeadLetterDetailSerializer(DeadLetterSerializer):
    """With the record as it came and as it was repaired, for those who may repair it."""

    raw = Encrypted(read_only=True)
    fixed = Encrypted(read_only=True, allow_null=True)

    class Meta(DeadLetterSerializer.Meta):
        fields: ClassVar[list[str]] = [*DeadLetterSerializer.Meta.fields, "raw", "fixed"]
        read_only_fields = fields


class FixSerializer(Strict):
    """A record in our own shape."""

    kind = serializers.ChoiceField([(str(kind), str(kind)) for kind in RecordKind])
    record = serializers.DictField()


class DeadLetterBatchSerializer(Strict):
    action = serializers.ChoiceField([(name, name) for name in ACTIONS])
    ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        min_length=1,
        max_length=MOST_AT_ONCE,
    )


class DeadLetterResultSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    success = serializers.BooleanField()
    state = serializers.CharField(allow_null=True)
    error = BatchErrorSerializer(allow_null=True)


class DeadLetterBatchAnswerSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField(help_text="All of them succeeded.")
    action = serializers.CharField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    results = DeadLetterResultSerializer(many=True)
