"""The bodies of what people ask the platform for: replies and logins."""

from __future__ import annotations

from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from lifecycle.api.base import Strict
from sync import queries, services
from sync.models import LoginSession, Reply

LONGEST_ANSWER = 4000


class NewReplySerializer(Strict):
    text = serializers.CharField(allow_blank=True, trim_whitespace=False)


class RetrySerializer(Strict):
    send_anyway = serializers.BooleanField(
        default=False,
        help_text="Send it though it may have been sent, and then arrives twice: only for a reply "
        "that `needs_decision`, after somebody has looked.",
    )


class ReplySerializer(serializers.ModelSerializer[Reply]):
    """Where a reply stands; `error` is the platform's own answer."""

    account_name = serializers.CharField(source="account", read_only=True)
    platform = serializers.CharField(source="account.platform", read_only=True)
    is_being_sent = serializers.SerializerMethodField()
    may_have_been_sent = serializers.BooleanField(
        read_only=True,
        help_text="It was taken back when an attempt's answer was lost: it is not sent any more, "
        "but the platform may have it. It becomes `sent` when the platform says so, and this "
        "`false` when it says no; some platforms can't be asked.",
    )
    needs_decision = serializers.BooleanField(
        read_only=True,
        help_text="It failed in doubt, and the platform can't be asked whether it has it. Look "
        "there; then give it up, or retry it with `send_anyway`.",
    )
    message = serializers.IntegerField(
        source="message_id",
        read_only=True,
        allow_null=True,
        help_text="The message that it became once it was read back.",
    )
    comment_echo = serializers.IntegerField(
        source="comment_echo_id",
        read_only=True,
        allow_null=True,
        help_text="The comment that it became once it was read back.",
    )

    class Meta:
        model = Reply
        fields: ClassVar[list[str]] = [
            *("id", "account", "account_name", "platform", "conversation", "post", "comment"),
            *(
                "text",
                "state",
                "is_being_sent",
                "may_have_been_sent",
                "needs_decision",
                "error",
                "external_id",
                "message",
                "comment_echo",
            ),
            *("attempts", "attempted_at", "next_attempt_at", "sent_at", "created_by", "created_at"),
        ]
        read_only_fields = fields

    def get_is_being_sent(self, reply: Reply) -> bool:
        return services.is_being_sent(reply, timezone.now())


class QueuedReplySerializer(ReplySerializer):
    """A reply that was just queued, and who else has just written there."""

    others = serializers.SerializerMethodField(
        help_text="Ids of replies that others wrote there within the last minute."
    )

    class Meta(ReplySerializer.Meta):
        fields: ClassVar[list[str]] = [*ReplySerializer.Meta.fields, "others"]
        read_only_fields = fields

    @extend_schema_field({"type": "array", "items": {"type": "integer"}})
    def get_others(self, _reply: Reply) -> list[int]:
        return list(self.context["others"])


class LoginSessionSerializer(serializers.ModelSerializer[LoginSession]):
    """A login under way. What it takes to finish it is shown to those who may."""

    account_name = serializers.CharField(source="account", read_only=True)
    qr_text = serializers.SerializerMethodField(
        help_text="What the QR image says; the image is at `…/qr`."
    )
    url = serializers.SerializerMethodField(help_text="Where to go on, and to answer from.")
    waits_for_worker = serializers.SerializerMethodField(
        help_text="Why no worker performs it now; empty when one can."
    )

    class Meta:
        model = LoginSession
        fields: ClassVar[list[str]] = [
            *("id", "account", "account_name", "state", "message", "qr_text", "url"),
            *("waits_for_worker", "expires_at", "created_by", "created_at", "finished_at"),
        ]
        read_only_fields = fields

    def get_qr_text(self, session: LoginSession) -> str:
        return session.qr_text if self._may_finish else ""

    def get_url(self, session: LoginSession) -> str:
        return session.url if self._may_finish else ""

    def get_waits_for_worker(self, session: LoginSession) -> str:
        return queries.why_login_waits(session)

    @property
    def _may_finish(self) -> bool:
        return bool(self.context["request"].user.has_perm("sync.operate_account"))


class LoginAnswerSerializer(Strict):
    """What the address led back with. Give `code` (and `state`), or the whole `address`."""

    code = serializers.CharField(required=False, max_length=LONGEST_ANSWER)
    state = serializers.CharField(required=False, max_length=LONGEST_ANSWER)
    address = serializers.URLField(
        required=False,
        max_length=LONGEST_ANSWER,
        help_text="Where the browser ended; code and state are taken from it.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return services.answer_from(**attrs)
