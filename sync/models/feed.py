"""The feed: one entry for each commit that changed something people see [S10]."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class FeedEntry(models.Model):
    """What one transaction changed, at its place in the order of commits.

    `position` is given at commit, under a lock that is held until the commit is done (a deferred
    trigger in the migration): whoever has seen a position has seen, or can see, all below it.
    Positions rise; a number may be missing, an entry never. See docs/adr/0011-feed.md.

    `changes` is `{kind: {operation: [ids]}}`; kinds are those of records, `reply`, `login_session`,
    `account`; operations are `new`, `changed`, `read`.
    """

    position = models.PositiveBigIntegerField(_("position"), null=True, unique=True)
    account_id = models.PositiveBigIntegerField(_("account"))  # kept when the account is deleted
    changes = models.JSONField(_("changes"))
    created_at = models.DateTimeField(_("created"), db_default=Now())

    class Meta:
        verbose_name = _("feed entry")
        verbose_name_plural = _("feed")
        ordering = ["position"]
        default_permissions = ()
        indexes = [models.Index(fields=["created_at"], name="feed_by_time")]

    def __str__(self) -> str:
        return f"{self.position}: {self.changes}"


class FeedFloor(models.Model):
    """How far the feed was pruned: whoever stands below this position has to reload. One row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    position = models.PositiveBigIntegerField(_("position"), default=0)

    class Meta:
        verbose_name = _("feed floor")
        verbose_name_plural = _("feed floors")
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_feed_floor")]

    def __str__(self) -> str:
        return str(self.position)
