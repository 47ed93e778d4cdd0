"""What platforms hold: conversations and messages, posts and comments, and what they said before.

Only `sync.store` writes these rows.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from lifecycle.models import choices, one_of
from sync.models.accounts import Account
from sync.types import Direction, RecordKind

DIRECTIONS = choices(Direction, _("inbound"), _("outbound"))
RECORD_KINDS = choices(RecordKind, _("conversation"), _("message"), _("post"), _("comment"))


class Conversation(models.Model):
    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="conversations",
        verbose_name=_("account"),
    )
    external_id = models.CharField(_("external id"), max_length=500)
    title = models.CharField(_("title"), max_length=500, blank=True)
    is_group = models.BooleanField(_("group"), default=False)
    last_message_at = models.DateTimeField(_("last message at"), null=True)
    last_message_text = models.CharField(_("last message"), max_length=300, blank=True)
    last_sender_name = models.CharField(_("last sender"), max_length=500, blank=True)
    messages_total = models.PositiveBigIntegerField(_("messages"), default=0)
    unread_count = models.PositiveIntegerField(_("unread"), default=0)
    # Read by us up to this message, and the platform has still to be told.
    untold_read_id = models.PositiveBigIntegerField(null=True, editable=False)
    untold_attempts = models.PositiveSmallIntegerField(db_default=0, default=0, editable=False)
    created_at = models.DateTimeField(_("created"), db_default=Now())
    updated_at = models.DateTimeField(_("updated"), db_default=Now())

    class Meta:
        verbose_name = _("conversation")
        verbose_name_plural = _("conversations")
        ordering = [F("last_message_at").desc(nulls_last=True), "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "external_id"], name="conversation_is_there_once"
            )
        ]
        indexes = [
            models.Index(
                F("last_message_at").desc(nulls_last=True),
                F("id").desc(),
                name="conversation_latest",
            ),
            models.Index(
                fields=["account"],
                condition=Q(untold_read_id__isnull=False),
                name="conversation_read_untold",
            ),
        ]

    def __str__(self) -> str:
        return self.title or self.external_id


class OfAccount(models.Model):
    """What hangs on an account by way of another row, whose account the database has checked."""

    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="+",
        verbose_name=_("account"),
    )

    class Meta:
        abstract = True


class Message(OfAccount):
    conversation = models.ForeignKey(
        Conversation,
        on_delete=models.CASCADE,
        db_index=False,  # the index below begins with it
        related_name="messages",
        verbose_name=_("conversation"),
    )
    external_id = models.CharField(_("external id"), max_length=500)
    sender_id = models.CharField(_("sender id"), max_length=500)
    sender_name = models.CharField(_("sender"), max_length=500, blank=True)
    text = models.TextField(_("text"), blank=True)
    content_type = models.CharField(_("content type"), max_length=100, default="text")
    attachments = models.JSONField(_("attachments"), default=list)
    direction = models.CharField(_("direction"), max_length=16, choices=DIRECTIONS)
    sent_at = models.DateTimeField(_("sent"))
    edited_at = models.DateTimeField(_("edited"), null=True)
    is_deleted = models.BooleanField(_("deleted"), db_default=False)
    is_read = models.BooleanField(_("read"), default=False)
    stored_at = models.DateTimeField(_("stored"), db_default=Now())

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-sent_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "external_id"], name="message_is_there_once"
            ),
            models.CheckConstraint(
                condition=one_of("direction", Direction), name="direction_is_known"
            ),
        ]
        indexes = [
            models.Index(fields=["conversation", "-sent_at", "-id"]),
            models.Index(
                fields=["conversation"],
                condition=Q(direction="inbound", is_read=False),
                name="message_unread",
            ),
        ]

    def __str__(self) -> str:
        return self.text[:80]


class Post(models.Model):
    """A work that an account published [S14]."""

    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="posts",
        verbose_name=_("account"),
    )
    external_id = models.CharField(_("external id"), max_length=500)
    author_id = models.CharField(_("author id"), max_length=500)
    author_name = models.CharField(_("author"), max_length=500, blank=True)
    title = models.CharField(_("title"), max_length=1000, blank=True)
    text = models.TextField(_("text"), blank=True)
    url = models.CharField(_("address"), max_length=2000, blank=True)
    published_at = models.DateTimeField(_("published"))
    edited_at = models.DateTimeField(_("edited"), null=True)
    is_deleted = models.BooleanField(_("deleted"), db_default=False)
    stored_at = models.DateTimeField(_("stored"), db_default=Now())

    class Meta:
        verbose_name = _("post")
        verbose_name_plural = _("posts")
        ordering = ["-published_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["account", "external_id"], name="post_is_there_once")
        ]
        # Lists of all posts: in the API and the admin.
        indexes = [models.Index(fields=["-published_at", "-id"], name="post_by_time")]

    def __str__(self) -> str:
        return self.title or self.external_id


class Comment(OfAccount):
    post = models.ForeignKey(
        Post,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="comments",
        verbose_name=_("post"),
    )
    external_id = models.CharField(_("external id"), max_length=500)
    parent_external_id = models.CharField(_("in reply to"), max_length=500, blank=True)
    author_id = models.CharField(_("author id"), max_length=500)
    author_name = models.CharField(_("author"), max_length=500, blank=True)
    text = models.TextField(_("text"), blank=True)
    direction = models.CharField(_("direction"), max_length=16, choices=DIRECTIONS)
    published_at = models.DateTimeField(_("published"))
    edited_at = models.DateTimeField(_("edited"), null=True)
    is_deleted = models.BooleanField(_("deleted"), db_default=False)
    stored_at = models.DateTimeField(_("stored"), db_default=Now())

    class Meta:
        verbose_name = _("comment")
        verbose_name_plural = _("comments")
        ordering = ["-published_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "external_id"], name="comment_is_there_once"
            ),
            models.CheckConstraint(
                condition=one_of("direction", Direction), name="comment_direction_is_known"
            ),
        ]
        indexes = [models.Index(fields=["post", "-published_at"])]

    def __str__(self) -> str:
        return self.text[:80]


class RecordVersion(OfAccount):
    """What a record said before it was edited or deleted on its platform [S4]."""

    kind = models.CharField(_("kind"), max_length=16, choices=RECORD_KINDS)
    record_id = models.PositiveBigIntegerField(_("record"))
    # The former values of the columns that changed.
    content = models.JSONField(_("content"))
    sequence = models.PositiveBigIntegerField(_("replaced by batch"))
    replaced_at = models.DateTimeField(_("replaced"), db_default=Now())

    class Meta:
        verbose_name = _("former version")
        verbose_name_plural = _("former versions")
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=one_of("kind", RecordKind), name="version_kind_is_known"
            )
        ]
        indexes = [models.Index(fields=["kind", "record_id", "-id"], name="version_of_record")]

    def __str__(self) -> str:
        return f"{self.kind} {self.record_id}, before batch {self.sequence}"
