"""What people ask the platform for: replies and logins, done by the account's worker [S11, S12]."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from lifecycle.encryption import EncryptedJSONField
from lifecycle.models import choices, one_of
from sync.models.accounts import Account
from sync.models.records import Comment, Conversation, Post
from sync.types import LoginSessionState, ReplyState

LOGIN_SESSION_STATES = choices(
    LoginSessionState,
    _("pending"),
    _("scanned"),
    _("success"),
    _("failed"),
    _("expired"),
    _("cancelled"),
)
REPLY_STATES = choices(ReplyState, _("pending"), _("sent"), _("failed"), _("cancelled"))
OPEN_LOGIN = Q(state__in=[LoginSessionState.PENDING.value, LoginSessionState.SCANNED.value])


class Reply(models.Model):
    """Something that an operator wants said: kept until it was sent, once [S12].

    In a conversation, or below a post and maybe a comment of it.
    """

    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="replies", verbose_name=_("account")
    )
    conversation = models.ForeignKey(
        Conversation,
        on_delete=models.CASCADE,
        null=True,
        related_name="replies",
        verbose_name=_("conversation"),
    )
    post = models.ForeignKey(
        Post, on_delete=models.CASCADE, null=True, related_name="replies", verbose_name=_("post")
    )
    comment = models.ForeignKey(
        Comment,
        on_delete=models.CASCADE,
        null=True,
        related_name="replies",
        verbose_name=_("comment"),
    )
    text = models.TextField(_("text"))
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    state = models.CharField(
        _("state"), max_length=16, choices=REPLY_STATES, default=ReplyState.PENDING.value
    )
    external_id = models.CharField(_("external id"), max_length=500, blank=True)
    error = models.TextField(_("error"), blank=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    attempted_at = models.DateTimeField(_("last attempt"), null=True)
    next_attempt_at = models.DateTimeField(_("next attempt"), db_default=Now())
    sent_at = models.DateTimeField(_("sent"), null=True)
    # Taken back when an attempt's answer was lost: the platform is still asked whether it has it.
    is_asked_for = models.BooleanField(db_default=False, default=False, editable=False)
    # It failed because the platform could not be asked whether it has it: a person looks there.
    needs_decision = models.BooleanField(db_default=False, default=False, editable=False)
    created_by = models.CharField(_("written by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now())

    class Meta:
        verbose_name = _("reply")
        verbose_name_plural = _("replies")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=one_of("state", ReplyState), name="reply_state_known"),
            models.CheckConstraint(
                condition=Q(conversation__isnull=False, post__isnull=True, comment__isnull=True)
                | Q(conversation__isnull=True, post__isnull=False),
                name="reply_has_one_target",
            ),
        ]
        indexes = [
            models.Index(
                fields=["account", "id"],
                condition=Q(state="pending") | Q(is_asked_for=True),
                name="reply_pending",
            ),
            models.Index(fields=["-id"], condition=Q(state="failed"), name="reply_failed"),
            models.Index(fields=["created_at"], name="reply_created"),
        ]

    def __str__(self) -> str:
        return self.text[:80]

    @property
    def may_have_been_sent(self) -> bool:
        """It was taken back, and the platform may have it all the same."""
        return self.state == ReplyState.CANCELLED and self.attempted_at is not None


class LoginSession(models.Model):
    """A login that somebody asked for [S11]."""

    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="login_sessions", verbose_name=_("account")
    )
    state = models.CharField(
        _("state"),
        max_length=16,
        choices=LOGIN_SESSION_STATES,
        default=LoginSessionState.PENDING.value,
    )
    message = models.TextField(_("message"), blank=True)
    qr_text = models.TextField(blank=True)
    url = models.CharField(_("address"), max_length=2000, blank=True)
    answer = EncryptedJSONField(default=dict)  # what came back to us, e.g. an OAuth code
    expires_at = models.DateTimeField(_("expires"))
    created_by = models.CharField(_("asked by"), max_length=150, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now())
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("login session")
        verbose_name_plural = _("login sessions")
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=one_of("state", LoginSessionState), name="login_session_state_known"
            ),
            models.UniqueConstraint(
                fields=["account"], condition=OPEN_LOGIN, name="one_login_at_a_time"
            ),
        ]
        indexes = [models.Index(fields=["finished_at"], name="login_finished")]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.state}"
