"""What platforms push to us, as it came [S13]."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from lifecycle.models import choices, one_of
from sync.models.accounts import Account
from sync.types import DeliveryState

DELIVERY_STATES = choices(DeliveryState, _("pending"), _("done"), _("refused"))


class HookDelivery(models.Model):
    """A signed webhook request, stored before it was answered, processed by a worker."""

    account = models.ForeignKey(
        Account,
        on_delete=models.CASCADE,
        db_index=False,
        related_name="deliveries",
        verbose_name=_("account"),
    )
    delivery_id = models.CharField(_("delivery id"), max_length=200)
    order_key = models.CharField(max_length=500, blank=True)
    # The platform's own running number, where it has one: a jump is a gap.
    number = models.PositiveBigIntegerField(_("number"), null=True)
    headers = models.JSONField(_("headers"), default=dict)  # without secrets
    body = models.BinaryField(_("body"))
    state = models.CharField(
        _("state"), max_length=16, choices=DELIVERY_STATES, default=DeliveryState.PENDING.value
    )
    error = models.TextField(_("error"), blank=True)
    repeats = models.PositiveIntegerField(_("repeats"), default=0)
    received_at = models.DateTimeField(_("received"), db_default=Now())
    processed_at = models.DateTimeField(_("processed"), null=True)

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["account", "delivery_id"], name="delivery_is_there_once"
            ),
            models.CheckConstraint(
                condition=one_of("state", DeliveryState), name="delivery_state_is_known"
            ),
        ]
        indexes = [
            models.Index(
                fields=["account", "id"], condition=Q(state="pending"), name="delivery_pending"
            ),
            models.Index(fields=["account", "-id"], name="delivery_of_account"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.delivery_id}"


class HookEndpoint(models.Model):
    """What came to an account's webhook address, counted; there once something did [S13].

    Counts are of requests. They are gathered in memory and written once a second: a web process
    that is killed forgets a second of them, and never a delivery.
    """

    account = models.OneToOneField(
        Account,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="hook_endpoint",
        verbose_name=_("account"),
    )
    accepted = models.PositiveBigIntegerField(_("accepted"), default=0)
    repeated = models.PositiveBigIntegerField(_("repeats"), default=0)
    rejected = models.PositiveBigIntegerField(_("bad signature"), default=0)
    malformed = models.PositiveBigIntegerField(_("malformed"), default=0)
    too_large = models.PositiveBigIntegerField(_("too large"), default=0)
    throttled = models.PositiveBigIntegerField(_("throttled"), default=0)
    unavailable = models.PositiveBigIntegerField(_("not taken, database away"), default=0)
    last_rejected_at = models.DateTimeField(_("last rejected"), null=True)
    last_rejection = models.CharField(_("last rejection"), max_length=300, blank=True)
    # Signed deliveries that were turned away because the account was disabled, and no gap yet.
    missed = models.PositiveBigIntegerField(_("turned away while disabled"), default=0)
    missed_since = models.DateTimeField(null=True)
    missed_until = models.DateTimeField(null=True)
    # The highest number that was processed, and when.
    number = models.PositiveBigIntegerField(null=True)
    number_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("webhook address")
        verbose_name_plural = _("webhook addresses")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.account_id}: {self.accepted}"
