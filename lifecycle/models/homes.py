"""Where the workers run [L11]."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from lifecycle.types import HomeRef


class FleetHome(models.Model):
    """The home whose master led last: only its agent knows the processes of the workers that are
    up. One row, or none before the first master led; only `lifecycle.services` writes here.
    """

    ONLY = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY, editable=False)
    identity = models.CharField(max_length=64)
    host = models.CharField(max_length=255)
    path = models.CharField(max_length=4096)
    since = models.DateTimeField()

    class Meta:
        verbose_name = "home of the fleet"
        verbose_name_plural = "home of the fleet"
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=Q(id=1), name="one_home_of_the_fleet")]

    def __str__(self) -> str:
        return str(self.ref)

    @property
    def ref(self) -> HomeRef:
        return HomeRef(self.identity, self.host, self.path)
