"""The bodies of sync's API. They validate and show; `sync.services` and `sync.store` write."""

from __future__ import annotations

from typing import Any, ClassVar

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from lifecycle.api.base import Strict
from lifecycle.api.serializers import ANYTHING
from sync import queries
from sync.models import (
    Account,
    Comment,
    Conversation,
    Message,
    PlatformServer,
    Post,
    RecordVersion,
    SyncRun,
)
from sync.models.accounts import STRATEGIES


@extend_schema_field(ANYTHING)
class Credentials(serializers.JSONField):
    """What the platform asks for; its shape is checked by the service. Never in an answer."""


class AccountSerializer(Strict, serializers.ModelSerializer[Account]):
    """An account, without its credentials: those are taken and never shown."""

    credentials = Credentials(write_only=True)
    worker_id = serializers.CharField(
        source="worker.worker_id",
        read_only=True,
        default=None,
        allow_null=True,
        help_text="The worker that watches it now.",
    )
    error_is_over = serializers.BooleanField(
        read_only=True, help_text="`last_error` is history: what was checked after it was good."
    )
    no_worker_because = serializers.SerializerMethodField(
        help_text="Why no running worker watches it; empty when one does, or it is disabled."
    )

    class Meta:
        model = Account
        written: ClassVar[list[str]] = [
            *("name", "platform", "identifier", "endpoint", "credentials", "enabled", "interval_s"),
            *("audit_interval_s", "stalled_after_s"),
        ]
        read_only_fields: ClassVar[list[str]] = [
            *("id", "worker_id", "no_worker_because", "epoch", "sequence", "next_due_at"),
            *("login_state", "last_sync_at", "last_error", "last_error_at", "error_count"),
            *("error_is_over", "notice", "notice_at"),
            *("conversations_total", "messages_total", "posts_total", "comments_total"),
            *("stalled_since", "watched_at", "last_news_at", "current_interval_s"),
            *("unread_total", "complete_until", "audit_due_at", "backlog"),
            *("created_at", "updated_at"),
        ]
        fields: ClassVar[list[str]] = ["id", *written, *read_only_fields[1:]]
        # "There once" is the service's and the database's to say: a PATCH of one part of the key
        # must not ask for the others.
        validators: ClassVar[list[Any]] = []

    def get_no_worker_because(self, account: Account) -> str:
        return queries.why_no_worker(account)


class ServerSerializer(serializers.ModelSerializer[PlatformServer]):
    """A platform's server that failed, and its circuit breaker."""

    class Meta:
        model = PlatformServer
        fields: ClassVar[list[str]] = [
            *("id", "platform", "endpoint", "state", "failures", "opened_at", "retry_at"),
            *("last_error", "updated_at"),
        ]
        read_only_fields = fields


class AssignmentSerializer(Strict):
    """The strategy can be written; the figures are of enabled accounts and running workers."""

    strategy = serializers.ChoiceField(STRATEGIES)
    waiting_accounts = serializers.IntegerField(read_only=True)
    assigned_accounts = serializers.IntegerField(read_only=True)
    capacity = serializers.IntegerField(read_only=True)
    running_workers = serializers.IntegerField(read_only=True)
    reason = serializers.CharField(read_only=True, help_text="Why accounts wait, and what helps.")


class ConversationSerializer(serializers.ModelSerializer[Conversation]):
    account_name = serializers.CharField(source="account", read_only=True)
    platform = serializers.CharField(source="account.platform", read_only=True)

    class Meta:
        model = Conversation
        fields: ClassVar[list[str]] = [
            *("id", "account", "account_name", "platform", "external_id", "title", "is_group"),
            *("last_message_at", "last_message_text", "last_sender_name"),
            *("messages_total", "unread_count", "created_at", "updated_at"),
        ]
        read_only_fields = fields


class AttachmentSerializer(serializers.Serializer[Any]):
    """A reference to a file on the platform."""

    url = serializers.CharField()
    name = serializers.CharField()
    media_type = serializers.CharField()
    size = serializers.IntegerField(allow_null=True)


class MessageSerializer(serializers.ModelSerializer[Message]):
    attachments = AttachmentSerializer(many=True, read_only=True)

    class Meta:
        model = Message
        fields: ClassVar[list[str]] = [
            *("id", "account", "conversation", "external_id", "direction"),
            *("sender_id", "sender_name", "text", "content_type", "attachments"),
            *("sent_at", "edited_at", "is_deleted", "is_read", "stored_at"),
        ]
        read_only_fields = fields


class PostSerializer(serializers.ModelSerializer[Post]):
    class Meta:
        model = Post
        fields: ClassVar[list[str]] = [
            *("id", "account", "external_id", "author_id", "author_name", "title", "text", "url"),
            *("published_at", "edited_at", "is_deleted", "stored_at"),
        ]
        read_only_fields = fields


class CommentSerializer(serializers.ModelSerializer[Comment]):
    class Meta:
        model = Comment
        fields: ClassVar[list[str]] = [
            *("id", "account", "post", "external_id", "parent_external_id", "direction"),
            *("author_id", "author_name", "text"),
            *("published_at", "edited_at", "is_deleted", "stored_at"),
        ]
        read_only_fields = fields


class VersionSerializer(serializers.ModelSerializer[RecordVersion]):
    """What a record said until it was edited or deleted on its platform."""

    content = serializers.DictField(
        help_text="Former values of the record: `text`, `edited_at`, `is_deleted`; of a message "
        "also `content_type`, `attachments`, of a post `title`, `url`."
    )

    class Meta:
        model = RecordVersion
        fields: ClassVar[list[str]] = ["id", "content", "sequence", "replaced_at"]
        read_only_fields = fields
        extra_kwargs: ClassVar[dict[str, dict[str, str]]] = {
            "sequence": {"help_text": "The account's batch that replaced it; see its sync runs."}
        }


class SyncRunSerializer(serializers.ModelSerializer[SyncRun]):
    """The receipt of a batch (`read = new + changed + same + refused`), or a failed check."""

    class Meta:
        model = SyncRun
        fields: ClassVar[list[str]] = [
            *("id", "account", "sequence", "epoch", "worker_id", "outcome"),
            *("read", "new", "changed", "same", "refused"),
            *("duration_ms", "error", "finished_at"),
        ]
        read_only_fields = fields


class UpToSerializer(Strict):
    up_to = serializers.IntegerField(
        required=False, min_value=1, help_text="Id of the last message that was read; default: all."
    )


class UnreadSerializer(serializers.Serializer[Any]):
    """Unread messages now."""

    total = serializers.IntegerField()
    platforms = serializers.DictField(child=serializers.IntegerField())
    accounts = serializers.DictField(
        child=serializers.IntegerField(), help_text="By id; of an event: those that it speaks of."
    )


class ReadAllSerializer(Strict):
    """A word against marking everything read by mistake."""

    confirm = serializers.BooleanField(help_text="Must be true.")

    def validate_confirm(self, yes: bool) -> bool:
        if not yes:
            raise serializers.ValidationError(_("Confirm with true."), code="unconfirmed")
        return yes


class ReadSerializer(serializers.Serializer[Any]):
    read = serializers.IntegerField(help_text="Messages that became read by this.")
    unread = serializers.IntegerField(help_text="Messages that are still unread.")


class CheckSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    id = serializers.IntegerField()


class PlatformSerializer(serializers.Serializer[Any]):
    """A platform that accounts can be on."""

    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field, not the property
    needs_endpoint = serializers.BooleanField()
    can_wait = serializers.BooleanField(help_text="News arrive at once.")
    replies_to = serializers.ListField(
        child=serializers.CharField(),
        help_text="What can be replied to: conversation, post, comment.",
    )
    longest_reply = serializers.IntegerField(help_text="Characters.")
    lists_ids = serializers.BooleanField(help_text="Can be audited.")
    asks_person = serializers.BooleanField(help_text="A login takes somebody: QR image or OAuth.")
    credentials = serializers.DictField(help_text="JSON schema of an account's `credentials`.")


class TotalsSerializer(serializers.Serializer[Any]):
    accounts = serializers.IntegerField()
    syncing = serializers.IntegerField(help_text="Enabled accounts whose last check was good.")
    failing = serializers.IntegerField(help_text="Enabled accounts whose check or login is not.")
    conversations = serializers.IntegerField()
    messages = serializers.IntegerField()
    posts = serializers.IntegerField()
    comments = serializers.IntegerField()
    unread = serializers.IntegerField(help_text="Messages that nobody has read yet.")
